// Writes a small data directory, as a server with pg_seal would, for the independent decryptor (decrypt_page.py) to
// open: the registry, key files, sealed relations in the default and another tablespace, and beside them the plain
// pages to compare with.
//
//   seal_sample_datadir DIRECTORY KEK_HEX
//
// Prints one line a page that must open: relation path, block, file of the plain page. A known KEK stands in for the
// token's.
#include "seal/crypto.hpp"
#include "seal/key_slot.hpp"
#include "seal/page_cipher.hpp"
#include "seal/registry.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace {

using namespace seal;
namespace fs = std::filesystem;
using Page = std::array<std::uint8_t, kPageSize>;
using Key = std::array<std::uint8_t, 32>;

constexpr char kUuid[] = "0123456789abcdef0123456789abcdef";

void require(bool ok, const char* what)
{
	if (!ok) {
		std::fprintf(stderr, "failed: %s\n", what);
		std::exit(1);
	}
}

Key random_key()
{
	Key key;
	require(random_private_bytes(key), "random bytes");
	return key;
}

WrappedBlob wrap_with_kek(const Bytes& kek, const Key& secret, const Bytes& aad)
{
	WrappedBlob blob{WrapMechanism::pkcs11_aes_gcm, Bytes(kAeadNonceSize), Bytes(secret.size() + kAeadTagSize)};
	require(random_bytes(blob.iv) && aead_seal(kek.data(), blob.iv.data(), aad, secret, blob.data), "wrap");
	return blob;
}

void write_file(const fs::path& path, const void* bytes, std::size_t size)
{
	fs::create_directories(path.parent_path());
	std::ofstream out(path, std::ios::binary);
	out.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(size));
	out.close();
	require(out.good(), "write");
}

Page plain_page(std::uint64_t seed)
{
	std::mt19937_64 random(seed);
	Page page;
	for (std::uint8_t& b : page)
		b = static_cast<std::uint8_t>(random());
	const std::uint16_t header[] = {0,   4,         100,
	                                200, kPageSize, kPageSize | 4}; // checksum, flags, lower, upper, special, version
	std::memcpy(&page[kPageChecksumOffset], header, sizeof header);
	return page;
}

void set_checksum(std::uint8_t* page, std::uint32_t block)
{
	const std::uint16_t sum = page_checksum(page, block);
	std::memcpy(page + kPageChecksumOffset, &sum, sizeof sum);
}

class KeyFile {
public:
	KeyFile()
	{
		std::uint8_t id[16];
		require(random_bytes(id), "file id");
		for (Page& page : pages_)
			key_page_init(page.data(), id);
	}
	KeySlot& slot(std::size_t i) { return *key_page_slot(pages_[i / kSlotsPerPage].data(), i % kSlotsPerPage); }
	void write(const fs::path& directory)
	{
		for (std::size_t p = 0; p < pages_.size(); p++)
			set_checksum(pages_[p].data(), static_cast<std::uint32_t>(p));
		write_file(directory / kKeyFileName, pages_.data(), sizeof pages_);
	}

private:
	alignas(8) std::array<Page, 2> pages_;
};

struct Writer {
	fs::path root;
	Bytes kek;
	Key keyring_key = random_key(); // version 2, current
	Key hsm_mac_key = random_key(); // keyring 2: only slot MACs
	unsigned plain_pages = 0;

	void registry()
	{
		Registry r;
		const auto put = [&](const RegistryChange& c) { require(r.apply(c).ok(), "registry"); };
		put(r.put(ProviderDef{"hsm", "pkcs11", R"({"module":"/none.so","token":"seal","pin_file":"/none"})", 1, 1}));
		for (std::uint32_t id : {1u, 2u}) {
			KeyringDef k;
			k.id = id;
			k.uuid_hex = kUuid;
			k.name = id == 1 ? "default" : "strict";
			k.protection = id == 1 ? "standard" : "hsm";
			k.policy_json = "{}";
			const Key check = random_key();
			std::uint8_t digest[kSha256Size];
			require(sha256(check, digest), "digest");
			KekVersion v{1,
			             "hsm",
			             {"kek", "01", WrapMechanism::pkcs11_aes_gcm},
			             wrap_with_kek(kek, check, kek_check_aad(kUuid, 1)),
			             to_hex(digest),
			             1,
			             "active"};
			k.keks.push_back(v);
			k.keys.push_back({1, 1, wrap_with_kek(kek, random_key(), keyring_key_aad(kUuid, 1)), 1, "deactivated"});
			k.keys.push_back({2, 1, wrap_with_kek(kek, id == 1 ? keyring_key : hsm_mac_key, keyring_key_aad(kUuid, 2)),
			                  1, "active"});
			put(r.put(k));
		}
		const std::string text = r.serialise();
		write_file(root / kRegistryPath, text.data(), text.size());
	}

	void expect(const std::string& relation, std::uint32_t block, const Page& plain)
	{
		const std::string name = "plain." + std::to_string(plain_pages++);
		write_file(root / name, plain.data(), plain.size());
		std::printf("%s %u %s\n", relation.c_str(), block, name.c_str());
	}

	// A slot of keyring 1 and its relation: a plain page, sealed ones, a zero page.
	void relation(KeySlot& slot, std::uint32_t tablespace, std::uint32_t node, const std::string& path, CipherId cipher)
	{
		const Key seed = random_key(), old_seed = random_key();
		slot.tablespace = tablespace;
		slot.rel_node = node;
		slot.version = node;
		slot.created_at = 1700000000;
		slot.keyring_id = 1;
		slot.keyring_version = slot.mac_key_version = 2;
		slot.format = kSlotFormat;
		slot.state = SlotState::finished;
		slot.form = {cipher, 255}; // the older generation, made first, then moved aside
		require(slot_wrap_seed(slot, keyring_key.data(), old_seed.data()), "wrap old seed");
		slot.old_form = slot.form;
		slot.old_wrapped_size = slot.wrapped_size;
		std::memcpy(slot.old_wrapped, slot.wrapped, sizeof slot.wrapped);
		std::memcpy(slot.old_key_check, slot.key_check, sizeof slot.key_check);
		slot.form = {cipher, 0};
		require(slot_wrap_seed(slot, keyring_key.data(), seed.data()), "wrap seed");
		require(slot_set_mac(slot, keyring_key.data()), "mac");
		pages(path, cipher, seed, 0, old_seed, 255);
	}

	// The same under protection 'hsm': the seed is wrapped by the KEK, the slot's MAC is made with the keyring key.
	void hsm_relation(KeySlot& slot, std::uint32_t node, const std::string& path)
	{
		const Key seed = random_key();
		const Bytes compact = wrap_with_kek(kek, seed, hsm_dek_aad(kUuid)).compact();
		slot.rel_node = node;
		slot.version = 1;
		slot.keyring_id = 2;
		slot.keyring_version = 1;
		slot.mac_key_version = 2;
		slot.format = kSlotFormat;
		slot.state = SlotState::single;
		slot.mechanism = WrapMechanism::pkcs11_aes_gcm;
		slot.form = {CipherId::aes_256_xts, 9};
		slot.wrapped_size = static_cast<std::uint8_t>(compact.size());
		std::memcpy(slot.wrapped, compact.data(), compact.size());
		require(dek_key_check(seed.data(), slot.key_check) && slot_set_mac(slot, hsm_mac_key.data()), "hsm slot");
		pages(path, CipherId::aes_256_xts, seed, 9, seed, 9);
		second_segment(path, seed);
	}

	void pages(const std::string& path, CipherId cipher, const Key& seed, std::uint8_t generation, const Key& old_seed,
	           std::uint8_t old_generation)
	{
		PageCipher now, before;
		require(now.init(cipher, seed.data()) && before.init(cipher, old_seed.data()), "cipher");
		for (const auto& [suffix, fork] : {std::pair{"", ForkClass::main},
		                                   {"_fsm", ForkClass::fsm},
		                                   {"_vm", ForkClass::vm},
		                                   {"_init", ForkClass::main}}) {
			std::array<Page, 5> disk{};
			for (std::uint32_t block = 0; block < disk.size(); block++) {
				Page plain = plain_page(plain_pages + 1000);
				if (block == 3)
					plain = {}; // stays zero on disk
				else if (block == 0) {
					disk[block] = plain; // not converted yet
					set_checksum(disk[block].data(), block);
				} else {
					PageCipher& c = block == 1 ? before : now;
					require(
						c.seal(plain.data(), disk[block].data(), block, fork, block == 1 ? old_generation : generation),
						"seal");
					set_checksum(disk[block].data(), block);
				}
				expect(path + suffix, block, plain);
			}
			write_file(root / (path + suffix), disk.data(), sizeof disk);
		}
	}

	// A page in the second segment file: its number counts from the start of the fork.
	void second_segment(const std::string& path, const Key& seed)
	{
		PageCipher c;
		require(c.init(CipherId::aes_256_xts, seed.data()), "cipher");
		const Page plain = plain_page(77);
		std::array<Page, 2> disk{};
		require(c.seal(plain.data(), disk[1].data(), 131073, ForkClass::main, 9), "seal");
		set_checksum(disk[1].data(), 131073);
		write_file(root / (path + ".1"), disk.data(), sizeof disk);
		expect(path, 131073, plain);
	}
};

} // namespace

int main(int argc, char** argv)
{
	Bytes kek;
	if (argc != 3 || !from_hex(argv[2], kek) || kek.size() != kAeadKeySize) {
		std::fprintf(stderr, "usage: seal_sample_datadir DIRECTORY KEK_HEX\n");
		return 2;
	}
	Writer w{argv[1], kek};
	w.registry();
	KeyFile own, other;
	w.relation(own.slot(0), 0, 16384, "base/5/16384", CipherId::aes_256_xts);
	w.relation(own.slot(40), 16385, 16384, "pg_tblspc/16385/PG_15_202209061/5/16384", CipherId::aes_128_xts);
	w.hsm_relation(own.slot(30), 16400, "base/5/16400");
	own.write(w.root / "base/5");
	// A database whose default tablespace is 16385: its key file lies there, and a relation of its in pg_default names
	// 1663.
	w.relation(other.slot(1), 0, 16390, "pg_tblspc/16385/PG_15_202209061/6/16390", CipherId::aes_256_xts);
	w.relation(other.slot(2), 1663, 16391, "base/6/16391", CipherId::aes_256_xts);
	other.write(w.root / "pg_tblspc/16385/PG_15_202209061/6");
	KeyFile shared;
	w.relation(shared.slot(0), 0, 1262, "global/1262", CipherId::aes_256_xts);
	shared.write(w.root / "global");
	return 0;
}
