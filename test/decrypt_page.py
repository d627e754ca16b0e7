#!/usr/bin/python3
"""Opens one page of a sealed relation, from the files alone: docs/formats.md turned into code by someone else.

    decrypt_page.py [--check] DATADIR KEK_HEX RELATION BLOCK > page

RELATION is the path of the relation's fork below the data directory, without segment number (base/5/16384, base/5/16384_vm,
pg_tblspc/16385/PG_15_202209061/5/16390). BLOCK counts from the start of the fork. KEK_HEX is the AES-256 key-encryption key,
which a real token never gives away: tests import one of known value. The plain page goes to standard output; its checksum
field is left as it was on disk. --check verifies the data checksum of the page as it lies on disk.

Needs python3-cryptography, nothing of pg_seal.
"""

import argparse
import glob
import hashlib
import hmac
import json
import os
import re
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PAGE = 8192
SEGMENT_BLOCKS = 131072
FORK_CLASS = {"": 0, "init": 0, "fsm": 1, "vm": 2}
KEY_BYTES = {1: 64, 2: 32}  # cipher id: AES-256-XTS, AES-128-XTS
LOCAL_AES_GCM, PKCS11_AES_GCM = 1, 2


def fail(message):
    sys.exit("decrypt_page: " + message)


def expand(key, label, size):
    return HKDFExpand(hashes.SHA256(), size, label).derive(key)


def open_gcm(key, nonce, sealed, aad, what):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        fail(what + " does not authenticate")


# --- the registry: keyring keys, wrapped by the KEK ---

def read_registry(datadir):
    with open(os.path.join(datadir, "pg_seal", "registry"), "rb") as f:
        text = f.read()
    document, line = text[:-72], text[-72:]
    if line != b"sha256:" + hashlib.sha256(document).hexdigest().encode() + b"\n":
        fail("the registry's digest does not fit")
    return json.loads(document)


def keyring_key(registry, kek, keyring_id, version):
    keyring = registry["keyrings"][str(keyring_id)]
    key = next(k for k in keyring["keys"] if k["version"] == version)
    wrapped = key["wrapped"]
    if wrapped["mechanism"] != "pkcs11_aes_gcm":
        fail("this program opens mechanism pkcs11_aes_gcm only")
    aad = b"pg_seal keyring key v1" + bytes.fromhex(keyring["uuid"]) + struct.pack("<I", version)
    return open_gcm(kek, bytes.fromhex(wrapped["iv"]), bytes.fromhex(wrapped["data"]), aad, "the keyring key")


# --- the key file: one slot a relation ---

def find_key_file(datadir, directory):
    """The key file of the database that `directory` belongs to, and the tablespace its slots name for this directory."""
    parts = directory.split("/")
    if parts[0] == "global":
        return "global/pg_seal_keys", 0
    database = parts[-1]
    tablespace = 1663 if parts[0] == "base" else int(parts[1])
    found = [os.path.relpath(p, datadir)
             for pattern in ("base/%s/pg_seal_keys", "pg_tblspc/*/PG_*/%s/pg_seal_keys")
             for p in glob.glob(os.path.join(datadir, pattern % database))]
    if len(found) != 1:
        fail("database %s has %d key files" % (database, len(found)))
    return found[0], 0 if os.path.dirname(found[0]) == directory else tablespace


SLOT = struct.Struct("<II QQ III BBBB BB BB BBH 80s 80s 8s 8s 12s I QQ")
assert SLOT.size == 256
SLOT_FIELDS = ("tablespace rel_node version switch_lsn created_at keyring_id keyring_version format state mechanism flags "
               "cipher generation old_cipher old_generation wrapped_size old_wrapped_size mac_key_version wrapped old_wrapped "
               "key_check old_key_check mac dropped_at record_lsn dropped_lsn").split()


def find_slot(path, tablespace, rel_node):
    with open(path, "rb") as f:
        data = f.read()
    if not data or len(data) % PAGE != 0:
        fail("the key file is not a whole number of pages")
    found = []
    for number in range(len(data) // PAGE):
        page = data[number * PAGE:(number + 1) * PAGE]
        if page[24:32] != b"PGSEALKF" or struct.unpack_from("<H", page, 8)[0] != page_checksum(page, number):
            fail("page %d of the key file is damaged" % number)
        for at in range(256, PAGE, 256):
            raw = page[at:at + 256]
            slot = dict(zip(SLOT_FIELDS, SLOT.unpack(raw)))
            if slot["state"] != 0 and (slot["tablespace"], slot["rel_node"]) == (tablespace, rel_node):
                slot["authenticated"] = raw[:224]
                found.append(slot)
    live = [s for s in found if s["dropped_lsn"] == 0]
    if len(live) != 1:
        fail("relation %d/%d has %d live slots" % (tablespace, rel_node, len(live)))
    return live[0]


def unwrap_seed(registry, kek, slot, old):
    mac_key = expand(keyring_key(registry, kek, slot["keyring_id"], slot["mac_key_version"]), b"pg_seal slot mac key v1", 32)
    mac = hmac.new(mac_key, slot["authenticated"], hashlib.sha256).digest()[:12]
    if not hmac.compare_digest(mac, slot["mac"]):
        fail("the slot does not authenticate")

    prefix = "old_" if old else ""
    wrapped = slot[prefix + "wrapped"][:slot[prefix + "wrapped_size"]]
    if slot["mechanism"] == LOCAL_AES_GCM:
        key = keyring_key(registry, kek, slot["keyring_id"], slot["keyring_version"])
        key = expand(key, b"pg_seal dek wrap key v1", 32)
        aad = b"pg_seal dek v1" + struct.pack("<IIIIBB", slot["tablespace"], slot["rel_node"], slot["keyring_id"],
                                              slot["keyring_version"], slot[prefix + "cipher"], slot[prefix + "generation"])
    elif slot["mechanism"] == PKCS11_AES_GCM:
        key = kek
        aad = b"pg_seal hsm dek v1" + bytes.fromhex(registry["keyrings"][str(slot["keyring_id"])]["uuid"])
    else:
        fail("this program does not open seeds of mechanism %d" % slot["mechanism"])
    seed = open_gcm(key, wrapped[:12], wrapped[12:], aad, "the wrapped seed")
    if expand(seed, b"pg_seal key check v1", 8) != slot[prefix + "key_check"]:
        fail("the seed does not fit its key check")
    return seed


# --- the page ---

def page_checksum(page, block):
    """PostgreSQL's data checksum (FNV-1a variant, 32 columns), the stored one taken as zero."""
    sums = [
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
        0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
        0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
        0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756]
    words = struct.unpack("<2048I", page[:8] + b"\0\0" + page[10:])
    for i, word in enumerate(words + (0,) * 64):
        mixed = sums[i % 32] ^ word
        sums[i % 32] = (mixed * 16777619 & 0xFFFFFFFF) ^ (mixed >> 17)
    folded = block
    for s in sums:
        folded ^= s
    return folded % 65535 + 1


def decrypt_unit(key, block, fork, unit, data):
    tweak = struct.pack("<IBB10x", block, fork, unit)
    decryptor = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def read_page(datadir, relation, block):
    segment = block // SEGMENT_BLOCKS
    path = os.path.join(datadir, relation + (".%d" % segment if segment else ""))
    with open(path, "rb") as f:
        f.seek(block % SEGMENT_BLOCKS * PAGE)
        page = f.read(PAGE)
    if len(page) != PAGE:
        fail("%s has no block %d" % (relation, block))
    return page


def open_page(datadir, kek, relation, block, check):
    page = read_page(datadir, relation, block)
    if page == bytes(PAGE):
        return page  # zero pages are never sealed
    if check and struct.unpack_from("<H", page, 8)[0] != page_checksum(page, block):
        fail("the page's checksum does not fit")
    flags = struct.unpack_from("<H", page, 10)[0]
    if not flags & 0x8000:
        return page  # a plain page of a relation in transition
    generation, cipher = flags >> 3 & 0xFF, flags >> 11 & 0x0F

    name = re.fullmatch(r"(\d+)(?:_(\w+))?", os.path.basename(relation))
    if not name or (name[2] or "") not in FORK_CLASS:
        fail("%s is not a relation's fork" % relation)
    fork = FORK_CLASS[name[2] or ""]
    key_file, tablespace = find_key_file(datadir, os.path.dirname(relation))
    slot = find_slot(os.path.join(datadir, key_file), tablespace, int(name[1]))
    if (slot["cipher"], slot["generation"]) == (cipher, generation):
        old = False
    elif slot["state"] in (2, 3, 4) and (slot["old_cipher"], slot["old_generation"]) == (cipher, generation):
        old = True
    else:
        fail("the slot has no key of cipher %d, generation %d" % (cipher, generation))
    seed = unwrap_seed(read_registry(datadir), kek, slot, old)
    key = expand(seed, b"pg_seal page key v1" + bytes([cipher]), KEY_BYTES[cipher])
    header = page[:10] + struct.pack("<H", flags & 7) + page[12:24]
    head = decrypt_unit(key, block, fork, 0, page[24:48])
    body = decrypt_unit(key, block, fork, 1, page[48:])
    opened = bytearray(header + head + body)
    for sector in range(512, PAGE, 512):  # never written since the page was new
        if page[sector:sector + 512] == bytes(512):
            opened[sector:sector + 512] = bytes(512)
    return bytes(opened)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="verify the data checksum of the page on disk")
    arguments.add_argument("datadir")
    arguments.add_argument("kek", type=bytes.fromhex)
    arguments.add_argument("relation")
    arguments.add_argument("block", type=int)
    a = arguments.parse_args()
    if len(a.kek) != 32:
        fail("the KEK is 32 bytes in hex")
    sys.stdout.buffer.write(open_page(a.datadir, a.kek, a.relation, a.block, a.check))


if __name__ == "__main__":
    main()
