#include "seal/crypto.hpp"
#include "seal/registry.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace seal {
namespace {

WrappedBlob blob(std::uint8_t fill)
{
	return {WrapMechanism::pkcs11_aes_gcm, Bytes(12, fill), Bytes(48, static_cast<std::uint8_t>(fill + 1))};
}

ProviderDef sample_provider() { return {"hsm", "pkcs11", R"({"module":"/usr/lib/hsm.so","token":"seal"})", 111, 222}; }

KeyringDef sample_keyring()
{
	KeyringDef k;
	k.id = 7;
	k.uuid_hex = "00112233445566778899aabbccddeeff";
	k.name = "Schlüssel \"eins\"";
	k.protection = "standard";
	k.policy_json = R"({"cryptoperiod":"1 year"})";
	k.created_by = "dba";
	k.created_at = 333;
	for (std::uint32_t v : {1u, 2u}) {
		KekVersion kek;
		kek.version = v;
		kek.provider = "hsm";
		kek.ref = {"default", "a1b2", WrapMechanism::pkcs11_aes_gcm};
		kek.check = blob(static_cast<std::uint8_t>(v));
		kek.check_digest = std::string(64, 'd');
		kek.created_at = 400 + v;
		kek.state = v == 2 ? "active" : "deactivated";
		k.keks.push_back(kek);
	}
	k.keys.push_back({1, 2, blob(9), 500, "active"});
	return k;
}

TablespacePolicy sample_policy() { return {16385, true, 7, CipherId::aes_128_xts, 600, "dba", 9}; }

OperationDef sample_operation()
{
	OperationDef o;
	o.id = 9;
	o.kind = "encrypt";
	o.tablespace = 16385;
	o.target = "geheim";
	o.keyring_id = 7;
	o.cipher = CipherId::aes_256_xts;
	o.state = "running";
	o.requested_by = "dba";
	o.created_at = 700, o.started_at = 701, o.finished_at = 0, o.updated_at = 702;
	o.pages_done = 1ull << 40, o.pages_total = (1ull << 40) + 5, o.relations_done = 3, o.failed_relations = 1;
	o.wal_bytes = 1ull << 50, o.wal_estimate = 1ull << 51;
	o.starts = 2;
	o.detail = "waits for \"someone\"";
	return o;
}

void must_apply(Registry& registry, const RegistryChange& change)
{
	const Status s = registry.apply(change);
	ASSERT_TRUE(s.ok()) << s.error().message;
	ASSERT_EQ(registry.sequence(), change.sequence);
}

Registry sample_registry()
{
	Registry r;
	must_apply(r, r.put(sample_provider()));
	must_apply(r, r.put(sample_keyring()));
	must_apply(r, r.put(sample_policy()));
	must_apply(r, r.put_counter("keyring_id", 7));
	must_apply(r, r.put(sample_operation()));
	return r;
}

// A file with a right digest over any document.
std::string file_of(const std::string& document)
{
	std::uint8_t digest[kSha256Size];
	EXPECT_TRUE(sha256(as_bytes(document), digest));
	return document + "sha256:" + to_hex(digest) + "\n";
}
nlohmann::json document_of(const std::string& file)
{
	return nlohmann::json::parse(file.substr(0, file.rfind("sha256:")));
}

TEST(Registry, EmptyRoundTrip)
{
	const Registry empty;
	EXPECT_EQ(empty.sequence(), 0u);
	const auto parsed = Registry::parse(empty.serialise());
	ASSERT_TRUE(parsed.ok()) << parsed.error().message;
	EXPECT_EQ(parsed->sequence(), 0u);
	EXPECT_TRUE(parsed->keyrings().empty());
	EXPECT_EQ(parsed->counter("keyring_id"), 0u);
}

TEST(Registry, EverythingSurvivesTheFile)
{
	const auto parsed = Registry::parse(sample_registry().serialise());
	ASSERT_TRUE(parsed.ok()) << parsed.error().message;
	const Registry& r = *parsed;
	EXPECT_EQ(r.sequence(), 5u);
	EXPECT_EQ(r.counter("keyring_id"), 7u);

	ASSERT_EQ(r.providers().size(), 1u);
	const ProviderDef p = r.providers()[0];
	EXPECT_EQ(p.name, "hsm");
	EXPECT_EQ(p.kind, "pkcs11");
	EXPECT_EQ(p.config_json, sample_provider().config_json);
	EXPECT_EQ(p.created_at, 111);
	EXPECT_EQ(p.altered_at, 222);

	ASSERT_EQ(r.keyrings().size(), 1u);
	const KeyringDef k = r.keyrings()[0], expected = sample_keyring();
	EXPECT_EQ(k.id, 7u);
	EXPECT_EQ(k.uuid_hex, expected.uuid_hex);
	EXPECT_EQ(k.name, expected.name);
	EXPECT_EQ(k.protection, "standard");
	EXPECT_EQ(k.policy_json, expected.policy_json);
	EXPECT_EQ(k.created_by, "dba");
	EXPECT_EQ(k.created_at, 333);
	EXPECT_EQ(k.provider(), "hsm");
	ASSERT_EQ(k.keks.size(), 2u);
	EXPECT_EQ(k.keks[1].version, 2u);
	EXPECT_EQ(k.keks[1].ref.label, "default");
	EXPECT_EQ(k.keks[1].ref.id_hex, "a1b2");
	EXPECT_EQ(k.keks[1].ref.mechanism, WrapMechanism::pkcs11_aes_gcm);
	EXPECT_EQ(k.keks[1].check.iv, blob(2).iv);
	EXPECT_EQ(k.keks[1].check.data, blob(2).data);
	EXPECT_EQ(k.keks[1].check_digest, std::string(64, 'd'));
	EXPECT_EQ(k.keks[0].state, "deactivated");
	ASSERT_EQ(k.keys.size(), 1u);
	EXPECT_EQ(k.keys[0].kek_version, 2u);
	EXPECT_EQ(k.keys[0].wrapped.data, blob(9).data);
	EXPECT_EQ(k.keys[0].created_at, 500);

	ASSERT_EQ(r.tablespaces().size(), 1u);
	const TablespacePolicy t = r.tablespaces()[0];
	EXPECT_EQ(t.tablespace, 16385u);
	EXPECT_TRUE(t.sealed);
	EXPECT_EQ(t.keyring_id, 7u);
	EXPECT_EQ(t.cipher, CipherId::aes_128_xts);
	EXPECT_EQ(t.since, 600);
	EXPECT_EQ(t.set_by, "dba");
	EXPECT_EQ(t.operation, 9u);

	ASSERT_EQ(r.operations().size(), 1u);
	const OperationDef o = r.operations()[0], began = sample_operation();
	EXPECT_EQ(o.id, 9u);
	EXPECT_EQ(o.kind, "encrypt");
	EXPECT_EQ(o.tablespace, 16385u);
	EXPECT_EQ(o.target, "geheim");
	EXPECT_EQ(o.keyring_id, 7u);
	EXPECT_EQ(o.cipher, CipherId::aes_256_xts);
	EXPECT_EQ(o.state, "running");
	EXPECT_EQ(o.requested_by, "dba");
	EXPECT_EQ(o.created_at, 700);
	EXPECT_EQ(o.started_at, 701);
	EXPECT_EQ(o.finished_at, 0);
	EXPECT_EQ(o.updated_at, 702);
	EXPECT_EQ(o.pages_done, began.pages_done);
	EXPECT_EQ(o.pages_total, began.pages_total);
	EXPECT_EQ(o.relations_done, 3u);
	EXPECT_EQ(o.failed_relations, 1u);
	EXPECT_EQ(o.wal_bytes, began.wal_bytes);
	EXPECT_EQ(o.wal_estimate, began.wal_estimate);
	EXPECT_EQ(o.starts, 2u);
	EXPECT_EQ(o.detail, began.detail);
	EXPECT_FALSE(o.finished());
	ASSERT_TRUE(r.operation(9).has_value());
	EXPECT_EQ(r.operation(9)->target, "geheim");
	EXPECT_FALSE(r.operation(8).has_value());
	EXPECT_EQ(Registry::parse(r.serialise())->serialise(), r.serialise());
}

TEST(Registry, OperationsAreOrderedByNumber)
{
	Registry r;
	for (const std::uint64_t id : {10u, 9u, 100u, 2u}) {
		OperationDef o = sample_operation();
		o.id = id;
		must_apply(r, r.put(o));
	}
	std::vector<std::uint64_t> ids;
	for (const OperationDef& o : r.operations())
		ids.push_back(o.id);
	EXPECT_EQ(ids, (std::vector<std::uint64_t>{2, 9, 10, 100}));
}

TEST(Registry, TheNewestFinishedOperationsAndAllOthersAreKept)
{
	Registry r, replica;
	for (std::uint64_t id = 1; id <= kFinishedOperationsKept + 50; id++) {
		OperationDef o = sample_operation();
		o.id = id;
		o.state = id == 3 ? "paused" : id == 4 ? "pending" : id % 3 == 0 ? "failed" : id % 3 == 1 ? "done" : "cancelled";
		const RegistryChange change = r.put(o);
		must_apply(r, change);
		must_apply(replica, change);
	}
	const std::vector<OperationDef> kept = r.operations();
	ASSERT_EQ(kept.size(), kFinishedOperationsKept + 2);
	EXPECT_EQ(kept[0].id, 3u);
	EXPECT_EQ(kept[1].id, 4u);
	EXPECT_EQ(kept[2].id, 51u);
	EXPECT_EQ(kept.back().id, kFinishedOperationsKept + 50);
	EXPECT_EQ(replica.serialise(), r.serialise());
}

TEST(Registry, EveryMechanismAndCipherHasAName)
{
	for (const auto mechanism :
	     {WrapMechanism::none, WrapMechanism::local_aes_gcm, WrapMechanism::pkcs11_aes_gcm,
	      WrapMechanism::pkcs11_aes_kw, WrapMechanism::pkcs11_cbc_hmac, WrapMechanism::kmip_aes_gcm}) {
		Registry r;
		KeyringDef k = sample_keyring();
		k.keks[0].ref.mechanism = mechanism;
		must_apply(r, r.put(k));
		EXPECT_EQ(Registry::parse(r.serialise())->keyrings()[0].keks[0].ref.mechanism, mechanism);
	}
	for (const auto cipher : {CipherId::none, CipherId::aes_256_xts, CipherId::aes_128_xts}) {
		Registry r;
		TablespacePolicy t = sample_policy();
		t.cipher = cipher;
		must_apply(r, r.put(t));
		EXPECT_EQ(Registry::parse(r.serialise())->tablespaces()[0].cipher, cipher);
	}
}

TEST(Registry, EveryAlteredByteAndEveryTruncationIsRefused)
{
	const std::string good = sample_registry().serialise();
	for (std::size_t i = 0; i < good.size(); i++) {
		std::string bad = good;
		bad[i] = static_cast<char>(bad[i] ^ 1);
		const auto parsed = Registry::parse(bad);
		ASSERT_FALSE(parsed.ok()) << i;
		ASSERT_EQ(parsed.error().code, ErrorCode::corrupt);
		ASSERT_FALSE(Registry::parse(std::string_view(good).substr(0, i)).ok()) << i;
	}
	EXPECT_FALSE(Registry::parse(good + "\n").ok());
}

TEST(Registry, ASoundDigestOverAWrongDocumentIsRefused)
{
	const nlohmann::json good = document_of(sample_registry().serialise());
	const auto refused = [&](auto change) {
		nlohmann::json bad = good;
		change(bad);
		return !Registry::parse(file_of(bad.dump())).ok();
	};
	EXPECT_FALSE(refused([](nlohmann::json&) {}));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d = nlohmann::json::array(); }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["format"] = 2; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["format"] = "1"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d.erase("sequence"); }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["sequence"] = -1; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"] = 5; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"]["7"]["keks"] = nlohmann::json::array(); }));
	EXPECT_TRUE(
		refused([](nlohmann::json& d) { std::swap(d["keyrings"]["7"]["keks"][0], d["keyrings"]["7"]["keks"][1]); }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"]["7"]["keys"][0]["wrapped"]["data"] = "abc"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"]["7"]["keys"][0]["wrapped"]["mechanism"] = "rot13"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"]["7"]["uuid"] = "00"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["keyrings"]["07"] = d["keyrings"]["7"]; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["tablespaces"]["4294967296"] = d["tablespaces"]["16385"]; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["tablespaces"]["16385"]["keyring_id"] = 4294967296u; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["tablespaces"]["16385"]["sealed"] = 1; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["tablespaces"]["16385"]["operation"] = "9"; }));
	EXPECT_FALSE(refused([](nlohmann::json& d) { d["tablespaces"]["16385"].erase("operation"); }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["9"]["state"] = "resting"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["9"]["kind"] = "forget"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["9"]["pages_done"] = -1; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["9"]["pages_done"] = 1.5; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["9"].erase("detail"); }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"]["x"] = d["operations"]["9"]; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["operations"] = 5; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["counters"]["keyring_id"] = "7"; }));
	EXPECT_TRUE(refused([](nlohmann::json& d) { d["providers"]["hsm"].erase("kind"); }));
	EXPECT_FALSE(Registry::parse(file_of("{")).ok());
	EXPECT_FALSE(Registry::parse(file_of(std::string(100000, '['))).ok());
	EXPECT_FALSE(Registry::parse(file_of("{\"a\":\"\xff\"}")).ok());
}

TEST(Registry, MembersOfANewerVersionSurvive)
{
	nlohmann::json d = document_of(sample_registry().serialise());
	d["wal_keys"] = {{"1", {{"state", "active"}}}};
	d["keyrings"]["7"]["escrow"] = "officer";
	d["keyrings"]["7"]["keks"][1]["attestation"] = "quote";
	d["keyrings"]["7"]["keys"][0]["wrapped"]["tag_bits"] = 128;
	d["providers"]["hsm"]["priority"] = 3;
	d["operations"]["9"]["window"] = "night";
	auto parsed = Registry::parse(file_of(d.dump()));
	ASSERT_TRUE(parsed.ok());
	Registry r = std::move(*parsed);

	KeyringDef k = r.keyrings()[0];
	k.keks.push_back(k.keks.back());
	k.keks.back().version = 3;
	k.created_by = "another";
	must_apply(r, r.put(k)); // altered by code that does not know them
	ProviderDef p = r.providers()[0];
	p.config_json = R"({"module":"/other.so"})";
	must_apply(r, r.put(p));
	must_apply(r, {r.sequence() + 1, "wal_keys", "2", R"({"state":"new"})"}); // a newer primary's record, redone here

	OperationDef o = r.operations()[0];
	o.state = "done";
	must_apply(r, r.put(o));

	const nlohmann::json after = document_of(r.serialise());
	EXPECT_EQ(after["operations"]["9"]["window"], "night");
	EXPECT_EQ(after["operations"]["9"]["state"], "done");
	EXPECT_EQ(after["wal_keys"]["1"]["state"], "active");
	EXPECT_EQ(after["wal_keys"]["2"]["state"], "new");
	EXPECT_EQ(after["keyrings"]["7"]["escrow"], "officer");
	EXPECT_EQ(after["keyrings"]["7"]["keks"][1]["attestation"], "quote");
	EXPECT_EQ(after["keyrings"]["7"]["keks"].size(), 3u);
	EXPECT_FALSE(after["keyrings"]["7"]["keks"][2].contains("attestation"));
	EXPECT_EQ(after["keyrings"]["7"]["keys"][0]["wrapped"]["tag_bits"], 128);
	EXPECT_EQ(after["providers"]["hsm"]["priority"], 3);
	EXPECT_EQ(after["providers"]["hsm"]["config"]["module"], "/other.so");
	EXPECT_TRUE(Registry::parse(r.serialise()).ok());
}

TEST(Registry, RedoIsIdempotentAndNeverGoesBack)
{
	Registry source, target;
	std::vector<RegistryChange> log;
	const auto change = [&](const RegistryChange& c) {
		const auto replayed = RegistryChange::decode(c.encode());
		ASSERT_TRUE(replayed.ok());
		must_apply(source, *replayed);
		log.push_back(*replayed);
	};
	change(source.put(sample_provider()));
	change(source.put(sample_keyring()));
	change(source.put(sample_policy()));
	change(source.put(sample_operation()));
	change(source.put_counter("operation_id", 1));
	change(source.put_counter("operation_id", 2));
	change(source.remove("tablespaces", "16385"));

	for (std::size_t from = 0; from <= log.size(); from++) // redo begins anywhere behind what is known already
		for (std::size_t i = from; i < log.size(); i++)
			if (log[i].sequence <= target.sequence() + 1) {
				ASSERT_TRUE(target.apply(log[i]).ok());
			}
	EXPECT_EQ(target.serialise(), source.serialise());
	for (const RegistryChange& c : log)
		ASSERT_TRUE(target.apply(c).ok());
	EXPECT_EQ(target.serialise(), source.serialise());
	EXPECT_TRUE(target.tablespaces().empty());
	EXPECT_EQ(target.counter("operation_id"), 2u);
}

TEST(Registry, NothingChangesBeforeApply)
{
	const Registry r = sample_registry();
	const std::string before = r.serialise();
	(void) r.put(sample_provider());
	(void) r.remove("keyrings", "7");
	EXPECT_EQ(r.serialise(), before);
}

TEST(Registry, MalformedChangesAreRefusedWhole)
{
	Registry r = sample_registry();
	const std::string before = r.serialise();
	const std::uint64_t next = r.sequence() + 1;
	for (const RegistryChange& c : std::initializer_list<RegistryChange>{
			 {next, "", "a", "{}"},
			 {next, "providers", "", "{}"},
			 {next, "providers", "p", "{}"},
			 {next, "providers", "p", "not json"},
			 {next, "providers", "\xff", R"({"kind":"k","config":{},"created_at":1,"altered_at":1})"},
			 {next, "keyrings", "x", "{}"},
			 {next, "sequence", "a", "{}"},
			 {next, "format", "a", ""},
			 {next, "counters", "c", "-1"},
			 {next, "operations", "9", "{}"},
		 }) {
		const Status s = r.apply(c);
		ASSERT_FALSE(s.ok()) << c.section << " " << c.value;
		EXPECT_EQ(s.error().code, ErrorCode::invalid_argument);
		EXPECT_EQ(r.serialise(), before);
	}
}

TEST(Registry, NamesThatAreNotUtf8DoNotBreakIt)
{
	Registry r;
	ProviderDef p = sample_provider();
	p.name = "caf\xe9";
	EXPECT_FALSE(r.apply(r.put(p)).ok());
	p = sample_provider();
	p.kind = "caf\xe9";
	EXPECT_TRUE(r.apply(r.put(p)).ok());
	EXPECT_TRUE(Registry::parse(r.serialise()).ok());
}

TEST(Registry, ConfigThatIsNotAnObjectIsKeptAsText)
{
	Registry r;
	ProviderDef p = sample_provider();
	p.config_json = "[1, 2";
	must_apply(r, r.put(p));
	EXPECT_EQ(Registry::parse(r.serialise())->providers()[0].config_json, "[1, 2");
}

TEST(RegistryChange, EveryTruncationIsRefused)
{
	const RegistryChange c = Registry().put(sample_provider());
	const Bytes good = c.encode();
	const auto back = RegistryChange::decode(good);
	ASSERT_TRUE(back.ok());
	EXPECT_EQ(back->section, "providers");
	EXPECT_EQ(back->key, "hsm");
	EXPECT_EQ(back->value, c.value);
	EXPECT_EQ(back->sequence, 1u);
	for (std::size_t n = 0; n < good.size(); n++)
		ASSERT_FALSE(RegistryChange::decode(ByteView(good).first(n)).ok()) << n;
	Bytes longer = good;
	longer.push_back(0);
	EXPECT_FALSE(RegistryChange::decode(longer).ok());
}

TEST(AssociatedData, NamesPurposeKeyringAndVersion)
{
	const std::string uuid = "00112233445566778899aabbccddeeff";
	EXPECT_EQ(to_hex(keyring_key_aad(uuid, 0x01020304)),
	          to_hex(as_bytes("pg_seal keyring key v1")) + uuid + "04030201");
	EXPECT_EQ(to_hex(kek_check_aad(uuid, 2)), to_hex(as_bytes("pg_seal kek check v1")) + uuid + "02000000");
	EXPECT_EQ(to_hex(hsm_dek_aad(uuid)), to_hex(as_bytes("pg_seal hsm dek v1")) + uuid);
}

TEST(WrappedBlob, CompactFormKeepsEveryMechanismsBlob)
{
	struct Case {
		WrapMechanism mechanism;
		std::size_t iv, data;
	};
	for (const Case c : {Case{WrapMechanism::pkcs11_aes_gcm, 12, 48}, Case{WrapMechanism::pkcs11_aes_kw, 0, 40},
	                     Case{WrapMechanism::pkcs11_cbc_hmac, 16, 64}, Case{WrapMechanism::kmip_aes_gcm, 12, 48}}) {
		const WrappedBlob b{c.mechanism, Bytes(c.iv, 1), Bytes(c.data, 2)};
		const Bytes compact = b.compact();
		ASSERT_EQ(compact.size(), c.iv + c.data);
		const auto back = WrappedBlob::from_compact(c.mechanism, compact);
		ASSERT_TRUE(back.has_value());
		EXPECT_EQ(back->iv, b.iv);
		EXPECT_EQ(back->data, b.data);
		EXPECT_EQ(back->mechanism, c.mechanism);
		EXPECT_FALSE(WrappedBlob::from_compact(c.mechanism, ByteView(compact).first(c.iv)).has_value());
		EXPECT_FALSE(WrappedBlob::from_compact(c.mechanism, Bytes(kWrappedSeedMax + 1)).has_value());
	}
	EXPECT_TRUE((WrappedBlob{WrapMechanism::pkcs11_aes_gcm, Bytes(11), Bytes(48)}).compact().empty());
	EXPECT_FALSE(WrappedBlob::from_compact(WrapMechanism::local_aes_gcm, Bytes(60)).has_value());
	EXPECT_FALSE(WrappedBlob::from_compact(WrapMechanism::none, Bytes(60)).has_value());
}

} // namespace
} // namespace seal
