#include "key_parcel.hpp"

#include "seal/agent_protocol.hpp"
#include "seal/wal_key.hpp"
#include "seal/wal_parcel.hpp"
#include "seal/wal_registry.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace seal::cli {

namespace {

// Of more generations than marks can tell apart the newest are taken.
constexpr std::size_t kMostKeys = kWalGenerations;

const UnlockedKey* find_key(const UnlockReply& unlocked, const WalKeyDef& definition)
{
	for (const UnlockedKey& key : unlocked.keys)
		if (key.keyring_id == definition.keyring_id && key.version == definition.keyring_version)
			return &key;
	return nullptr;
}

const KeyringDef* find_keyring(const std::vector<KeyringDef>& keyrings, std::uint32_t id)
{
	for (const KeyringDef& keyring : keyrings)
		if (keyring.id == id)
			return &keyring;
	return nullptr;
}

Status open_key(const WalKeyDef& definition, const std::vector<KeyringDef>& keyrings, const UnlockReply& unlocked,
                WalParcelKey& out)
{
	const KeyringDef* keyring = find_keyring(keyrings, definition.keyring_id);
	const UnlockedKey* key = find_key(unlocked, definition);
	if (!keyring || !key || key->key.size() != kKeyringKeySize ||
	    !wal_key_open(definition, keyring->uuid_hex, key->key.reveal(RevealToken{}).data(), out.key))
		return Error(ErrorCode::corrupt,
		             "the WAL key of generation " + std::to_string(definition.generation) + " does not verify",
		             "Restore pg_seal/registry from a backup or a standby.");
	out.generation = definition.generation;
	out.cipher = definition.cipher;
	return ok_status();
}

Status write_whole(int fd, ByteView bytes)
{
	while (!bytes.empty()) {
		const ssize_t n = write(fd, bytes.data(), bytes.size());
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return Error(ErrorCode::io_error,
			             std::string("could not write the memory file for the keys: ") + std::strerror(errno));
		bytes = bytes.subspan(static_cast<std::size_t>(n));
	}
	return ok_status();
}

Result<int> seal_into_memory(ByteView parcel)
{
	const int fd = memfd_create("pg_seal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return Error(ErrorCode::io_error,
		             std::string("could not make a memory file for the keys: ") + std::strerror(errno));
	Status written = write_whole(fd, parcel);
	if (written && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
		written = Error(ErrorCode::io_error,
		                std::string("could not seal the memory file for the keys: ") + std::strerror(errno));
	if (!written) {
		close(fd);
		return written.error();
	}
	return fd;
}

} // namespace

Result<KeyParcel> make_key_parcel(const Registry& registry, std::uint64_t system_identifier,
                                  const std::string& data_directory, const std::string& overrides)
{
	Result<Registry> part = wal_part(registry);
	if (!part)
		return part.error();
	UnlockReply unlocked = unlock_registry(*part, overrides);
	if (unlocked.error)
		return *unlocked.error;
	const WalKeysDef wal = part->wal_keys();
	const std::vector<KeyringDef> keyrings = part->keyrings();
	const std::size_t count = std::min(wal.keys.size(), kMostKeys), skipped = wal.keys.size() - count;

	Secret parcel(sizeof(WalParcelHeader) + count * sizeof(WalParcelKey));
	const MutableBytes bytes = parcel.reveal_mutable(RevealToken{});
	WalParcelHeader header{};
	std::memcpy(header.magic, kParcelMagic, sizeof header.magic);
	header.format = kParcelFormat;
	header.newest = wal.active;
	header.count = static_cast<std::uint32_t>(count);
	header.system_identifier = system_identifier;
	if (data_directory.size() >= sizeof header.data_directory)
		return Error(ErrorCode::invalid_argument, "the data directory's path is too long");
	std::memcpy(header.data_directory, data_directory.data(), data_directory.size());
	std::memcpy(bytes.data(), &header, sizeof header);
	for (std::size_t i = 0; i < count; ++i) {
		WalParcelKey key{};
		const Status opened = open_key(wal.keys[skipped + i], keyrings, unlocked, key);
		std::memcpy(bytes.data() + sizeof header + i * sizeof key, &key, sizeof key);
		wipe(&key, sizeof key);
		if (!opened)
			return opened.error();
	}
	Result<int> fd = seal_into_memory(bytes);
	if (!fd)
		return fd.error();
	return KeyParcel{*fd, wal.active != 0};
}

} // namespace seal::cli
