// KeySlot: the 256-byte record of one relation's DEK, as it lies in a key file and in WAL. On disk: never renumber.
//
// Authenticated: bytes 0-223 under the keyring's slot MAC key (slot_mac()). Not authenticated, local to the node or
// derivable: dropped_at, record_lsn, dropped_lsn. The database and its default tablespace are not in the slot, because
// whole directories are copied raw (CREATE DATABASE ... STRATEGY file_copy, ALTER DATABASE SET TABLESPACE).
//
// A wrapped seed under a 'standard' keyring is AES-256-GCM under the keyring key's wrap subkey:
// nonce (12, random) || ciphertext (32) || tag (16), associated data = slot_dek_aad(). Under an 'hsm' keyring it is the
// provider's own blob. Random 96-bit nonces: at most 2^32 wraps per keyring key (SP 800-38D 8.3), counted by versions.
//
// No <string> here: src/pg/storage and redo include this header.
#pragma once

#include "seal/page_cipher.hpp"

#include <cstddef>
#include <cstdint>

namespace seal {

inline constexpr std::size_t kSlotSize = 256;
inline constexpr std::size_t kWrappedSeedMax = 80;
inline constexpr std::size_t kSlotMacSize = 12;
inline constexpr std::size_t kKeyringKeySize = 32;

enum class SlotState : std::uint8_t { // on disk: never renumber
	free = 0,
	single = 1,     // one form; sealed-only: an unmarked non-zero page is rejected
	transition = 2, // old and new form: pages take the new one from switch_lsn on
	finished = 3,   // new form only, old key retained
	announced = 4,  // a transition that has not begun: both forms can be read, every page still takes the old one
};
// A relation whose pages may lie on disk in two forms.
inline constexpr bool slot_in_transition(SlotState state) noexcept
{
	return state == SlotState::announced || state == SlotState::transition;
}
// KeySlot::flags. An unlogged relation's pages (but not its init fork's) have no LSN to go by: in a transition they take the new form.
inline constexpr std::uint8_t kSlotUnlogged = 1;
enum class WrapMechanism : std::uint8_t { // on disk: never renumber
	none = 0,
	local_aes_gcm = 1,  // by the keyring key
	pkcs11_aes_gcm = 2, // by the KEK inside the provider (keyring protection 'hsm'); so the next two
	pkcs11_aes_kw = 3,
	pkcs11_cbc_hmac = 4,
	kmip_aes_gcm = 5,
};
struct KeyForm {
	CipherId cipher;         // none: the form is "plain"
	std::uint8_t generation; // as in the page flags
};

struct KeySlot {
	std::uint32_t tablespace; // 0: the database's default tablespace
	std::uint32_t rel_node;   // relfilenode
	std::uint64_t version;    // only grows within a key file; larger wins. Timeline (24 bits), then a counter (40)
	std::uint64_t switch_lsn; // from transition on: pages with pd_lsn >= this take the new form
	std::uint32_t created_at; // seconds since 1970
	std::uint32_t keyring_id;
	std::uint32_t keyring_version; // version of the keyring key (of the KEK for 'hsm') that wrapped both seeds
	std::uint8_t format;           // kSlotFormat
	SlotState state;
	WrapMechanism mechanism;
	std::uint8_t flags; // kSlotUnlogged
	KeyForm form;       // the form new writes take
	KeyForm old_form;   // announced, transition and finished only
	std::uint8_t wrapped_size;
	std::uint8_t old_wrapped_size;
	std::uint16_t mac_key_version; // keyring key version that made `mac` (= keyring_version under 'standard')
	std::uint8_t wrapped[kWrappedSeedMax];
	std::uint8_t old_wrapped[kWrappedSeedMax];
	std::uint8_t key_check[kKeyCheckSize];
	std::uint8_t old_key_check[kKeyCheckSize];
	std::uint8_t mac[kSlotMacSize];
	std::uint32_t dropped_at;  // seconds since 1970: when the relation was dropped, or its transition finished; else 0
	std::uint64_t record_lsn;  // end of the WAL record that brought this version
	std::uint64_t dropped_lsn; // 0: live; else a tombstone: the relation was gone at this LSN
};
inline constexpr std::uint8_t kSlotFormat = 1;
// The cipher of the key that a record holds: the form's, else the old form's while that is kept. None: it says "plain".
inline constexpr CipherId slot_cipher(const KeySlot& slot) noexcept
{
	if (slot.form.cipher != CipherId::none || slot.state == SlotState::single)
		return slot.form.cipher;
	return slot.old_form.cipher;
}
static_assert(sizeof(KeySlot) == kSlotSize);
static_assert(offsetof(KeySlot, wrapped) == 48 && offsetof(KeySlot, key_check) == 208);
static_assert(offsetof(KeySlot, mac) == 224 && offsetof(KeySlot, record_lsn) == 240);

// The working secrets of one keyring key version: 32 bytes expand to a wrap key and a slot MAC key. All functions:
// false = the library refused, or (open_dek, slot_mac_ok) authentication failed. Never raise or block. The associated
// data of a local wrap: "pg_seal dek v1" || tablespace || rel_node || keyring_id || keyring_version (u32 LE each) ||
// cipher || generation of the form. A seed that becomes the old one keeps its wrapped bytes.
inline constexpr std::size_t kDekAadSize = 32;
void slot_dek_aad(const KeySlot& slot, bool old, std::uint8_t aad[kDekAadSize]) noexcept;
[[nodiscard]] bool new_dek_seed(std::uint8_t seed[kDekSeedSize]) noexcept; // RAND_priv_bytes
[[nodiscard]] bool dek_key_check(const std::uint8_t seed[kDekSeedSize], std::uint8_t check[kKeyCheckSize]) noexcept;
// Wraps `seed` into slot.wrapped / wrapped_size / key_check, sets mechanism local_aes_gcm. Identity fields are set
// before.
[[nodiscard]] bool slot_wrap_seed(KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize],
                                  const std::uint8_t seed[kDekSeedSize]) noexcept;
// Unwraps the current (or the old) seed and verifies its key check. Only for mechanism local_aes_gcm.
[[nodiscard]] bool slot_unwrap_seed(const KeySlot& slot, bool old, const std::uint8_t keyring_key[kKeyringKeySize],
                                    std::uint8_t seed[kDekSeedSize]) noexcept;
[[nodiscard]] bool slot_set_mac(KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize]) noexcept;
[[nodiscard]] bool slot_mac_ok(const KeySlot& slot, const std::uint8_t keyring_key[kKeyringKeySize]) noexcept;

// --- key file: 8 KiB pages, each with a valid PostgreSQL page header and checksum --- Bytes 0-23 page header; 24-255
// of every page: KeyFilePageInfo; slots at 256, 512 ... 7936: 31 a page, none crosses a sector.
inline constexpr std::size_t kSlotsPerPage = 31;
inline constexpr std::size_t kSlotOffset = 256;
struct KeyFilePageInfo {   // at byte 24 of each page
	std::uint8_t magic[8]; // "PGSEALKF"
	std::uint32_t format;  // 1
	std::uint32_t reserved;
	std::uint8_t file_id[16];  // random, the same on every page of a file
	std::uint64_t max_version; // page 0 only: no smaller than the version of any slot wiped so far
};
static_assert(sizeof(KeyFilePageInfo) == 40);
inline constexpr std::uint8_t kKeyFileMagic[8] = {'P', 'G', 'S', 'E', 'A', 'L', 'K', 'F'};
inline constexpr char kKeyFileName[] = "pg_seal_keys";

void key_page_init(std::uint8_t* page, const std::uint8_t file_id[16]) noexcept; // empty slots; checksum not set
bool key_page_valid(const std::uint8_t* page) noexcept;                          // header and magic; not the checksum
inline KeySlot* key_page_slot(std::uint8_t* page, std::size_t i) noexcept
{
	return reinterpret_cast<KeySlot*>(page + kSlotOffset + i * kSlotSize);
}

} // namespace seal
