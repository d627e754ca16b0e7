// seal.enable_wal_encryption, disable_wal_encryption, rotate_wal_key, and the view seal.wal_keys.
//
// A generation comes into use in steps (docs/architecture.md, "WAL keys", argues each crash point):
//   1. its key is made, wrapped and logged ("next"), and put into the vault;
//   2. more WAL than recovery reads ahead;
//   3. one registry change makes it active and the one before it retired: segments begun from then on are sealed with it;
//   4. a new segment, and a checkpoint behind its beginning;
//   5. the end of the retired one is noted, the next one is made.
// A crash between two steps leaves keys that are not used yet, or a segment more under the old generation; the next call goes on from there.
#include "../audit/audit_event.hpp"
#include "../guc.hpp"
#include "../vault/vault.hpp"
#include "../wal/wal_keys.hpp"
#include "../wal/wal_switch.hpp"
#include "key_change.hpp"
#include "key_wrapping.hpp"
#include "sql_args.hpp"
#include "sql_entry.hpp"
#include "sql_rows.hpp"
#include "sql_text.hpp"

#include "seal/wal_key.hpp"

extern "C" {
#include "access/xlog.h"
}

#include <algorithm>

namespace seal::pg {

namespace {

constexpr std::int64_t kMicroseconds = 1000000;

CipherId wanted_cipher() { return pg_strcasecmp(guc_default_cipher, "aes-128-xts") == 0 ? CipherId::aes_128_xts : CipherId::aes_256_xts; }

KeyringDef wal_keyring(const Registry& registry, const std::string& name)
{
	KeyringDef keyring = need_keyring(registry, name);
	if (keyring.protection != "standard")
		raise({ErrorCode::unsupported, "keyring \"" + name + "\" has protection '" + keyring.protection + "', which WAL cannot wait for",
		       "Every process that writes WAL needs its key at once: choose a keyring with protection 'standard'."});
	if (keyring.keys.empty() || keyring.keys.back().state != "active")
		raise({ErrorCode::unsupported, "keyring \"" + name + "\" has no active key"});
	return keyring;
}

bool waits_for_use(const WalKeyDef& key, const KeyringDef& keyring)
{
	return key.began_at == 0 && key.retired_at == 0 && key.keyring_id == keyring.id &&
	       key.keyring_version == keyring.keys.back().version && key.cipher == wanted_cipher();
}

// Keys that no WAL needs any more, by the setting and by what lies in pg_wal.
void drop_expired(WalKeysDef& keys, std::uint64_t oldest_segment)
{
	if (guc_wal_key_retention_s <= 0)
		return;
	const std::int64_t before = now_microseconds() - guc_wal_key_retention_s * kMicroseconds;
	std::erase_if(keys.keys, [&](const WalKeyDef& key) {
		const bool unused = key.began_at == 0;
		return key.generation != keys.active && key.retired_at != 0 && key.retired_at < before &&
		       (unused || (key.last_lsn != 0 && key.last_lsn <= oldest_segment));
	});
}

// A fresh key at the end of the list; keys that waited for use under another keyring or cipher never will be.
void add_next(WalKeysDef& keys, const KeyringDef& keyring)
{
	WalKeyDef next;
	next.generation = keys.keys.empty() ? 1 : keys.keys.back().generation + 1;
	if (!keys.keys.empty() && next.generation - keys.keys.front().generation >= kWalGenerations)
		raise({ErrorCode::unsupported, std::to_string(kWalGenerations) + " generations of the WAL key are kept already",
		       "Set pg_seal.wal_key_retention to the age of the oldest archive that is still wanted."});
	next.keyring_id = keyring.id;
	next.keyring_version = keyring.keys.back().version;
	next.cipher = wanted_cipher();
	next.created_at = now_microseconds();
	for (WalKeyDef& key : keys.keys)
		if (key.began_at == 0 && key.retired_at == 0)
			key.retired_at = next.created_at;
	uint8 keyring_key[kKeyringKeySize], key[kWalKeySize];
	if (!vault_get_keyring_key(next.keyring_id, next.keyring_version, keyring_key))
		raise({ErrorCode::provider_unreachable, "the key of keyring \"" + keyring.name + "\" is not loaded",
		       "seal.health tells what the key agent waits for."});
	const bool made = wal_key_make(next, keyring.uuid_hex, keyring_key, key);
	wipe(keyring_key, sizeof keyring_key);
	wipe(key, sizeof key); // it enters the vault as everywhere else: from the registry, once it is logged
	if (!made)
		raise({ErrorCode::crypto_failure, "could not make a WAL key"});
	keys.keys.push_back(std::move(next));
}

// Steps 1 and 2. The generation that waits for use.
std::uint32_t prepare_next(const KeyringDef& keyring)
{
	const WalKeysDef now = registry_read().wal_keys();
	if (now.keys.empty() || !waits_for_use(now.keys.back(), keyring))
		change_registry([&](const Registry& registry) {
			WalKeysDef keys = registry.wal_keys();
			add_next(keys, keyring);
			return registry.put(keys);
		});
	const Registry registry = registry_read();
	wal_keys_load(registry);
	const std::uint32_t next = registry.wal_keys().keys.back().generation;
	if (vault_wal_generation(static_cast<uint16>(next % kWalGenerations)) != next)
		raise({ErrorCode::provider_unreachable, "the new WAL key could not be loaded"});
	pg_call([] { wal_outrun_read_ahead(); });
	return next;
}

// Step 3. `next` 0: WAL in clear.
void activate(std::uint32_t next, const KeyringDef* keyring)
{
	const std::uint64_t first = pg_call([] { return wal_next_segment_of(GetXLogWriteRecPtr()); });
	const std::uint32_t timeline = pg_call([] { return GetWALInsertionTimeLine(); });
	const std::uint64_t oldest = pg_call([] { return wal_oldest_local_segment(); });
	const WalKeysDef before = registry_read().wal_keys();
	change_registry([&](const Registry& registry) {
		WalKeysDef keys = registry.wal_keys();
		const std::int64_t now = now_microseconds();
		for (WalKeyDef& key : keys.keys) {
			if (key.generation == next) {
				key.began_at = now;
				key.first_lsn = first;
				key.first_timeline = timeline;
			} else if (key.generation == keys.active) {
				key.retired_at = now;
			}
		}
		keys.active = next;
		drop_expired(keys, oldest);
		if (keyring)
			add_next(keys, *keyring);
		return registry.put(keys);
	});
	const Registry registry = registry_read();
	const WalKeysDef after = registry.wal_keys();
	for (const WalKeyDef& key : before.keys)
		if (!after.find(key.generation)) // expired
			vault_forget_wal_key(key.generation);
	wal_keys_load(registry);
}

// Steps 4 and 5.
std::uint64_t begin_segment()
{
	const bool sealed = wal_active_generation() != 0;
	const std::uint64_t boundary = pg_call([&] {
		if (sealed)
			wal_drop_plain_leftovers(false);
		const std::uint64_t begun = wal_begin_segment();
		if (sealed)
			wal_drop_plain_leftovers(false); // what the checkpoint put by for use again
		return begun;
	});
	change_registry([&](const Registry& registry) {
		WalKeysDef keys = registry.wal_keys();
		for (WalKeyDef& key : keys.keys)
			if (key.began_at != 0 && key.retired_at != 0 && key.last_lsn == 0)
				key.last_lsn = boundary;
		return registry.put(keys);
	});
	return boundary;
}

const WalKeyDef* active_key(const WalKeysDef& keys) { return keys.active == 0 ? nullptr : keys.find(keys.active); }

std::uint32_t enable(const std::string& name)
{
	AuditEvent event("wal.encrypt", name);
	std::uint32_t generation = 0;
	audited(event, [&] {
		const KeyChange change("seal.enable_wal_encryption()");
		const Registry now = registry_read();
		const KeyringDef keyring = wal_keyring(now, name);
		const WalKeysDef keys = now.wal_keys();
		if (const WalKeyDef* active = active_key(keys); active && active->keyring_id == keyring.id)
			raise({ErrorCode::already_exists, "WAL is encrypted already, with a key of keyring \"" + name + "\"",
			       "seal.rotate_wal_key() takes a new key; seal.wal_keys lists them."});
		generation = prepare_next(keyring);
		activate(generation, &keyring);
		event.detail.number("generation", generation).text("first_lsn", lsn_text(begin_segment()));
	});
	return generation;
}

void disable()
{
	AuditEvent event("wal.decrypt", "WAL");
	audited(event, [&] {
		const KeyChange change("seal.disable_wal_encryption()");
		const WalKeysDef keys = registry_read().wal_keys();
		if (keys.active == 0)
			raise({ErrorCode::not_found, "WAL is not encrypted"});
		event.detail.number("generation", keys.active);
		activate(0, nullptr);
		event.detail.text("last_lsn", lsn_text(begin_segment()));
	});
}

std::uint32_t rotate()
{
	AuditEvent event("wal_key.rotate", "WAL");
	std::uint32_t generation = 0;
	audited(event, [&] {
		const KeyChange change("seal.rotate_wal_key()");
		const Registry now = registry_read();
		const WalKeysDef keys = now.wal_keys();
		const WalKeyDef* const active = active_key(keys);
		if (!active)
			raise({ErrorCode::not_found, "WAL is not encrypted", "Call seal.enable_wal_encryption() first."});
		std::string name;
		for (const KeyringDef& each : now.keyrings())
			if (each.id == active->keyring_id)
				name = each.name;
		const KeyringDef keyring = wal_keyring(now, name);
		event.detail.text("keyring", name).number("former_generation", keys.active);
		generation = prepare_next(keyring);
		activate(generation, &keyring);
		event.detail.number("generation", generation).text("first_lsn", lsn_text(begin_segment()));
	});
	return generation;
}

void wal_key_rows(Rows& rows)
{
	const Registry registry = registry_read();
	const std::vector<KeyringDef> keyrings = registry.keyrings();
	const WalKeysDef keys = registry.wal_keys();
	for (const WalKeyDef& key : keys.keys) {
		std::string name;
		for (const KeyringDef& keyring : keyrings)
			if (keyring.id == key.keyring_id)
				name = keyring.name;
		rows.integer(static_cast<std::int32_t>(key.generation)).text_or_null(name).text(cipher_name(key.cipher));
		rows.text(key.generation == keys.active ? "active" : key.retired_at != 0 ? "retired" : "next");
		rows.lsn_or_null(key.first_lsn);
		if (key.first_timeline != 0)
			rows.integer(static_cast<std::int32_t>(key.first_timeline));
		else
			rows.null();
		rows.lsn_or_null(key.last_lsn).time(key.created_at).time(key.began_at).time(key.retired_at);
		rows.time(key.retired_at != 0 && guc_wal_key_retention_s > 0 ? key.retired_at + guc_wal_key_retention_s * kMicroseconds : 0);
		rows.flag(vault_wal_generation(static_cast<uint16>(key.generation % kWalGenerations)) == key.generation).end();
	}
}

} // namespace

extern "C" {
PG_FUNCTION_INFO_V1(pg_seal_enable_wal_encryption);
PG_FUNCTION_INFO_V1(pg_seal_disable_wal_encryption);
PG_FUNCTION_INFO_V1(pg_seal_rotate_wal_key);
PG_FUNCTION_INFO_V1(pg_seal_list_wal_keys);

PGDLLEXPORT Datum pg_seal_enable_wal_encryption(PG_FUNCTION_ARGS)
{
	return sql_entry([&] { return Int32GetDatum(static_cast<int32>(enable(name_arg(fcinfo, 0, "keyring")))); });
}

PGDLLEXPORT Datum pg_seal_disable_wal_encryption(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return sql_entry([&] {
		disable();
		return Datum{0};
	});
}

PGDLLEXPORT Datum pg_seal_rotate_wal_key(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return sql_entry([&] { return Int32GetDatum(static_cast<int32>(rotate())); });
}

PGDLLEXPORT Datum pg_seal_list_wal_keys(PG_FUNCTION_ARGS)
{
	return sql_entry([&] {
		Rows rows(fcinfo);
		wal_key_rows(rows);
		return Datum{0};
	});
}
}

} // namespace seal::pg
