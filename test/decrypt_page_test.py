#!/usr/bin/python3
"""The independent decryptor opens every page that the core library sealed, and refuses what was altered.

    decrypt_page_test.py PATH_OF_SEAL_SAMPLE_DATADIR
"""

import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import decrypt_page  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
KEK = "00112233445566778899aabbccddeeff" * 2


def read(path):
    with open(path, "rb") as f:
        return f.read()


def expect_refusal(datadir, kek, relation, block, reason):
    try:
        decrypt_page.open_page(datadir, bytes.fromhex(kek), relation, block, True)
    except SystemExit as refusal:
        assert reason in str(refusal), (reason, refusal)
    else:
        raise AssertionError("opened in spite of: " + reason)


def with_flipped_bit(path, offset, check):
    data = bytearray(read(path))
    data[offset] ^= 1
    with open(path, "wb") as f:
        f.write(data)
    check()
    data[offset] ^= 1
    with open(path, "wb") as f:
        f.write(data)


def main():
    with tempfile.TemporaryDirectory() as datadir:
        listing = subprocess.run([sys.argv[1], datadir, KEK], check=True, capture_output=True, text=True).stdout
        pages = [line.split() for line in listing.splitlines()]
        assert len(pages) == 6 * 4 * 5 + 1, len(pages)
        for relation, block, plain_file in pages:
            opened = decrypt_page.open_page(datadir, bytes.fromhex(KEK), relation, int(block), True)
            plain = read(os.path.join(datadir, plain_file))
            assert opened[:8] + opened[10:] == plain[:8] + plain[10:], (relation, block)  # all but the checksum

        # The program as such, once.
        relation, block, plain_file = next(p for p in pages if p[1] == "2")
        command = [sys.executable, os.path.join(HERE, "decrypt_page.py"), "--check", datadir, KEK, relation, block]
        printed = subprocess.run(command, check=True, capture_output=True).stdout
        assert printed[24:] == read(os.path.join(datadir, plain_file))[24:]

        sample = os.path.join(datadir, "base/5/16384")
        keys = os.path.join(datadir, "base/5/pg_seal_keys")
        registry = os.path.join(datadir, "pg_seal/registry")
        expect_refusal(datadir, "ff" + KEK[2:], "base/5/16384", 2, "keyring key does not authenticate")
        with_flipped_bit(sample, 2 * 8192 + 5000, lambda: expect_refusal(datadir, KEK, "base/5/16384", 2, "checksum"))
        with_flipped_bit(keys, 256 + 50, lambda: expect_refusal(datadir, KEK, "base/5/16384", 2, "damaged"))
        with_flipped_bit(registry, 100, lambda: expect_refusal(datadir, KEK, "base/5/16384", 2, "digest"))
        expect_refusal(datadir, KEK, "base/5/16384", 5, "no block")
    print("opened %d pages" % len(pages))


if __name__ == "__main__":
    main()
