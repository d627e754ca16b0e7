#!/usr/bin/python3
"""Opens one sealed WAL segment, from the files alone: docs/formats.md turned into code by someone else.

    decrypt_wal.py DATADIR KEK_HEX SEGMENT OUTPUT

DATADIR gives the registry with the wrapped WAL keys. KEK_HEX is the AES-256 key-encryption key, as for decrypt_page.py. OUTPUT is the segment in
clear. Prints how many pages were sealed, plain (with contents), empty (none after the header) or foreign (of another segment, in a file used again):
foreign pages are copied as they are.

Needs python3-cryptography, nothing of pg_seal.
"""

import argparse
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from decrypt_page import expand, fail, keyring_key, open_gcm, read_registry, KEY_BYTES  # noqa: E402

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: E402

PAGE = 8192
SEALED, LONG = 0x8000, 0x0002
GENERATIONS = 1024
CIPHERS = {"aes-256-xts": 1, "aes-128-xts": 2}


def wal_keys(registry, kek):
    """{mark: XTS key}: a mark is a generation modulo 1024."""
    keys = {}
    for entry in registry["wal"]["keys"]["list"]:
        uuid = bytes.fromhex(registry["keyrings"][str(entry["keyring_id"])]["uuid"])
        cipher = CIPHERS[entry["cipher"]]
        wrap_key = expand(keyring_key(registry, kek, entry["keyring_id"], entry["keyring_version"]), b"pg_seal wal wrap v1", 32)
        wrapped = bytes.fromhex(entry["wrapped"])
        aad = b"pg_seal wal key v1" + uuid + struct.pack("<IB", entry["generation"], cipher)
        seed = open_gcm(wrap_key, wrapped[:12], wrapped[12:], aad, "the WAL key")
        keys[entry["generation"] % GENERATIONS] = expand(seed, b"pg_seal wal key v1" + bytes([cipher]), KEY_BYTES[cipher])
    return keys


def open_page(page, key):
    _, info, timeline, address = struct.unpack_from("<HHIQ", page)
    header = 40 if info & LONG else 24

    def unit(number, data):
        tweak = struct.pack("<QIB3x", address, timeline, number)
        decryptor = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
        return decryptor.update(data) + decryptor.finalize()

    clear = page[:2] + struct.pack("<H", info & 0x000F) + page[4:header]
    return clear + unit(0, page[header:header + 24]) + unit(1, page[header + 24:])


def open_segment(data, start, keys):
    count = {"sealed": 0, "plain": 0, "empty": 0, "foreign": 0}
    opened = []
    for offset in range(0, len(data), PAGE):
        page = data[offset:offset + PAGE]
        info, address = struct.unpack_from("<xxH4xQ", page)
        if page == bytes(PAGE):
            kind = "empty"
        elif address != start + offset:
            kind = "foreign"
        elif info & SEALED:
            kind = "sealed"
            mark = info >> 4 & (GENERATIONS - 1)
            if mark not in keys:
                fail("no WAL key for mark %d" % mark)
            page = open_page(page, keys[mark])
        else:
            kind = "plain" if any(page[40 if info & LONG else 24:]) else "empty"
        count[kind] += 1
        opened.append(page)
    return b"".join(opened), count


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("datadir")
    arguments.add_argument("kek", type=bytes.fromhex)
    arguments.add_argument("segment")
    arguments.add_argument("output")
    a = arguments.parse_args()
    if len(a.kek) != 32:
        fail("the KEK is 32 bytes in hex")
    with open(a.segment, "rb") as f:
        data = f.read()
    name = os.path.basename(a.segment)
    start = int(name[8:16], 16) * 2**32 + int(name[16:24], 16) * len(data)
    registry = read_registry(a.datadir)
    clear, count = open_segment(data, start, wal_keys(registry, a.kek) if "wal" in registry else {})
    with open(a.output, "wb") as f:
        f.write(clear)
    print(" ".join("%d %s" % (n, kind) for kind, n in count.items()))


if __name__ == "__main__":
    main()
