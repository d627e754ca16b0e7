#include "registry_json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace seal::registry_json {

namespace {

template <class E> struct Name {
	E value;
	const char* text;
};
// In files: never rename.
constexpr std::array<Name<WrapMechanism>, 6> kMechanisms{{{WrapMechanism::none, "none"},
                                                          {WrapMechanism::local_aes_gcm, "local_aes_gcm"},
                                                          {WrapMechanism::pkcs11_aes_gcm, "pkcs11_aes_gcm"},
                                                          {WrapMechanism::pkcs11_aes_kw, "pkcs11_aes_kw"},
                                                          {WrapMechanism::pkcs11_cbc_hmac, "pkcs11_cbc_hmac"},
                                                          {WrapMechanism::kmip_aes_gcm, "kmip_aes_gcm"}}};
constexpr std::array<Name<CipherId>, 3> kCiphers{
	{{CipherId::none, "none"}, {CipherId::aes_256_xts, "aes-256-xts"}, {CipherId::aes_128_xts, "aes-128-xts"}}};
constexpr std::array<const char*, 3> kOperationKinds{"encrypt", "decrypt", "rotate"};
constexpr std::array<const char*, 6> kOperationStates{"pending", "running", "paused", "done", "failed", "cancelled"};

template <class Table, class E> const char* name_of(const Table& table, E value)
{
	for (const auto& n : table)
		if (n.value == value)
			return n.text;
	return "none";
}
template <class Table, class E> bool value_of(const Table& table, const std::string& text, E& out)
{
	for (const auto& n : table)
		if (text == n.text) {
			out = n.value;
			return true;
		}
	return false;
}

const Json* member(const Json& object, const char* name)
{
	if (!object.is_object())
		return nullptr;
	const auto found = object.find(name);
	return found == object.end() ? nullptr : &*found;
}
bool get(const Json& object, const char* name, std::string& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || !m->is_string())
		return false;
	out = m->get_ref<const std::string&>();
	return true;
}
bool get(const Json& object, const char* name, bool& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || !m->is_boolean())
		return false;
	out = m->get<bool>();
	return true;
}
bool get(const Json& object, const char* name, std::uint32_t& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || !m->is_number_unsigned() || m->get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max())
		return false;
	out = m->get<std::uint32_t>();
	return true;
}
bool get(const Json& object, const char* name, std::uint64_t& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || !m->is_number_unsigned())
		return false;
	out = m->get<std::uint64_t>();
	return true;
}
bool get(const Json& object, const char* name, std::int64_t& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || !m->is_number_integer())
		return false;
	if (m->is_number_unsigned() && m->get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
		return false;
	out = m->get<std::int64_t>();
	return true;
}
bool get(const Json& object, const char* name, Bytes& out)
{
	std::string hex;
	return get(object, name, hex) && from_hex(hex, out);
}
bool get(const Json& object, const char* name, WrapMechanism& out)
{
	std::string text;
	return get(object, name, text) && value_of(kMechanisms, text, out);
}
bool get(const Json& object, const char* name, CipherId& out)
{
	std::string text;
	return get(object, name, text) && value_of(kCiphers, text, out);
}
bool get(const Json& object, const char* name, WrappedBlob& out)
{
	const Json* const m = member(object, name);
	return m != nullptr && get(*m, "mechanism", out.mechanism) && get(*m, "iv", out.iv) && get(*m, "data", out.data);
}

// JSON given by a user is kept as JSON, so that the file stays readable; what is not an object is kept as its text.
bool get_json_text(const Json& object, const char* name, std::string& out)
{
	const Json* const m = member(object, name);
	if (m == nullptr || (!m->is_object() && !m->is_string()))
		return false;
	out = m->is_string() ? m->get<std::string>() : json_print(*m);
	return true;
}
Json json_text(const std::string& text)
{
	std::optional<Json> value = json_parse(text);
	return value && value->is_object() ? std::move(*value) : Json(text);
}

template <class Number> bool parse_number(const std::string& text, Number& out)
{
	const char* const end = text.data() + text.size();
	const auto [at, error] = std::from_chars(text.data(), end, out);
	return error == std::errc() && at == end && std::to_string(out) == text;
}

bool uuid_ok(const std::string& hex)
{
	Bytes bytes;
	return from_hex(hex, bytes) && bytes.size() == 16;
}

void put_blob(Json& object, const char* name, const WrappedBlob& blob)
{
	Json& m = object[name];
	if (!m.is_object())
		m = Json::object();
	m["mechanism"] = name_of(kMechanisms, blob.mechanism);
	m["iv"] = to_hex(blob.iv);
	m["data"] = to_hex(blob.data);
}

bool read_kek(const Json& entry, KekVersion& out)
{
	return get(entry, "version", out.version) && get(entry, "provider", out.provider) &&
	       get(entry, "label", out.ref.label) && get(entry, "id", out.ref.id_hex) &&
	       get(entry, "mechanism", out.ref.mechanism) && get(entry, "check", out.check) &&
	       get(entry, "check_digest", out.check_digest) && get(entry, "created_at", out.created_at) &&
	       get(entry, "state", out.state);
}
void write_kek(const KekVersion& def, Json& entry)
{
	entry["version"] = def.version;
	entry["provider"] = def.provider;
	entry["label"] = def.ref.label;
	entry["id"] = def.ref.id_hex;
	entry["mechanism"] = name_of(kMechanisms, def.ref.mechanism);
	put_blob(entry, "check", def.check);
	entry["check_digest"] = def.check_digest;
	entry["created_at"] = def.created_at;
	entry["state"] = def.state;
}

bool read_key(const Json& entry, KeyringKey& out)
{
	return get(entry, "version", out.version) && get(entry, "kek_version", out.kek_version) &&
	       get(entry, "wrapped", out.wrapped) && get(entry, "created_at", out.created_at) &&
	       get(entry, "state", out.state);
}
void write_key(const KeyringKey& def, Json& entry)
{
	entry["version"] = def.version;
	entry["kek_version"] = def.kek_version;
	put_blob(entry, "wrapped", def.wrapped);
	entry["created_at"] = def.created_at;
	entry["state"] = def.state;
}

// Versions ascend: the last is current, and one is found by its number without doubt.
template <class Version> bool read_versions(const Json& entry, const char* name,
                                            bool (*read_one)(const Json&, Version&), std::vector<Version>& out)
{
	const Json* const list = member(entry, name);
	if (list == nullptr || !list->is_array())
		return false;
	out.clear();
	for (const Json& element : *list) {
		Version v;
		if (!read_one(element, v) || (!out.empty() && out.back().version >= v.version))
			return false;
		out.push_back(std::move(v));
	}
	return true;
}
template <class Version> void write_versions(const std::vector<Version>& versions, const char* name,
                                             void (*write_one)(const Version&, Json&), Json& entry)
{
	const Json before = entry.contains(name) ? entry[name] : Json::array();
	Json list = Json::array();
	for (const Version& v : versions) {
		Json element = Json::object();
		if (before.is_array())
			for (const Json& b : before) {
				std::uint32_t version = 0;
				if (get(b, "version", version) && version == v.version)
					element = b;
			}
		write_one(v, element);
		list.push_back(std::move(element));
	}
	entry[name] = std::move(list);
}

} // namespace

bool read(const std::string& key, const Json& entry, ProviderDef& out)
{
	out.name = key;
	return !key.empty() && get(entry, "kind", out.kind) && get_json_text(entry, "config", out.config_json) &&
	       get(entry, "created_at", out.created_at) && get(entry, "altered_at", out.altered_at);
}
void write(const ProviderDef& def, Json& entry)
{
	entry["kind"] = def.kind;
	entry["config"] = json_text(def.config_json);
	entry["created_at"] = def.created_at;
	entry["altered_at"] = def.altered_at;
}

bool read(const std::string& key, const Json& entry, KeyringDef& out)
{
	return parse_number(key, out.id) && get(entry, "uuid", out.uuid_hex) && uuid_ok(out.uuid_hex) &&
	       get(entry, "name", out.name) && !out.name.empty() && get(entry, "protection", out.protection) &&
	       get_json_text(entry, "policy", out.policy_json) && get(entry, "created_by", out.created_by) &&
	       get(entry, "created_at", out.created_at) && read_versions(entry, "keks", read_kek, out.keks) &&
	       !out.keks.empty() && read_versions(entry, "keys", read_key, out.keys);
}
void write(const KeyringDef& def, Json& entry)
{
	entry["uuid"] = def.uuid_hex;
	entry["name"] = def.name;
	entry["protection"] = def.protection;
	entry["policy"] = json_text(def.policy_json);
	entry["created_by"] = def.created_by;
	entry["created_at"] = def.created_at;
	write_versions(def.keks, "keks", write_kek, entry);
	write_versions(def.keys, "keys", write_key, entry);
}

bool read(const std::string& key, const Json& entry, TablespacePolicy& out)
{
	return parse_number(key, out.tablespace) && get(entry, "sealed", out.sealed) &&
	       get(entry, "keyring_id", out.keyring_id) && get(entry, "cipher", out.cipher) &&
	       get(entry, "since", out.since) && get(entry, "set_by", out.set_by) &&
	       (member(entry, "operation") == nullptr || get(entry, "operation", out.operation));
}
void write(const TablespacePolicy& def, Json& entry)
{
	entry["sealed"] = def.sealed;
	entry["keyring_id"] = def.keyring_id;
	entry["cipher"] = name_of(kCiphers, def.cipher);
	entry["since"] = def.since;
	entry["set_by"] = def.set_by;
	entry["operation"] = def.operation;
}

bool read(const std::string& key, const Json& entry, OperationDef& out)
{
	const auto one_of = [](const auto& words, const std::string& word) {
		return std::find(words.begin(), words.end(), word) != words.end();
	};
	return parse_number(key, out.id) && get(entry, "kind", out.kind) && one_of(kOperationKinds, out.kind) &&
	       get(entry, "tablespace", out.tablespace) && get(entry, "target", out.target) &&
	       get(entry, "keyring_id", out.keyring_id) && get(entry, "cipher", out.cipher) && get(entry, "state", out.state) &&
	       one_of(kOperationStates, out.state) && get(entry, "requested_by", out.requested_by) &&
	       get(entry, "created_at", out.created_at) && get(entry, "started_at", out.started_at) &&
	       get(entry, "finished_at", out.finished_at) && get(entry, "updated_at", out.updated_at) &&
	       get(entry, "pages_done", out.pages_done) && get(entry, "pages_total", out.pages_total) &&
	       get(entry, "relations_done", out.relations_done) && get(entry, "failed_relations", out.failed_relations) &&
	       get(entry, "wal_bytes", out.wal_bytes) && get(entry, "wal_estimate", out.wal_estimate) &&
	       get(entry, "starts", out.starts) && get(entry, "leftover", out.leftover) && get(entry, "detail", out.detail);
}
void write(const OperationDef& def, Json& entry)
{
	entry["kind"] = def.kind;
	entry["tablespace"] = def.tablespace;
	entry["target"] = def.target;
	entry["keyring_id"] = def.keyring_id;
	entry["cipher"] = name_of(kCiphers, def.cipher);
	entry["state"] = def.state;
	entry["requested_by"] = def.requested_by;
	entry["created_at"] = def.created_at;
	entry["started_at"] = def.started_at;
	entry["finished_at"] = def.finished_at;
	entry["updated_at"] = def.updated_at;
	entry["pages_done"] = def.pages_done;
	entry["pages_total"] = def.pages_total;
	entry["relations_done"] = def.relations_done;
	entry["failed_relations"] = def.failed_relations;
	entry["wal_bytes"] = def.wal_bytes;
	entry["wal_estimate"] = def.wal_estimate;
	entry["starts"] = def.starts;
	entry["leftover"] = def.leftover;
	entry["detail"] = def.detail;
}

namespace {

bool read_wal_key(const Json& entry, WalKeyDef& out)
{
	return get(entry, "generation", out.generation) && out.generation != 0 && get(entry, "keyring_id", out.keyring_id) &&
	       get(entry, "keyring_version", out.keyring_version) && get(entry, "cipher", out.cipher) &&
	       get(entry, "wrapped", out.wrapped) && get(entry, "created_at", out.created_at) &&
	       get(entry, "began_at", out.began_at) && get(entry, "retired_at", out.retired_at) &&
	       get(entry, "first_lsn", out.first_lsn) && get(entry, "first_timeline", out.first_timeline) &&
	       get(entry, "last_lsn", out.last_lsn);
}
void write_wal_key(const WalKeyDef& def, Json& entry)
{
	entry["generation"] = def.generation;
	entry["keyring_id"] = def.keyring_id;
	entry["keyring_version"] = def.keyring_version;
	entry["cipher"] = name_of(kCiphers, def.cipher);
	entry["wrapped"] = to_hex(def.wrapped);
	entry["created_at"] = def.created_at;
	entry["began_at"] = def.began_at;
	entry["retired_at"] = def.retired_at;
	entry["first_lsn"] = def.first_lsn;
	entry["first_timeline"] = def.first_timeline;
	entry["last_lsn"] = def.last_lsn;
}

} // namespace

bool read(const std::string& key, const Json& entry, WalKeysDef& out)
{
	const Json* const list = member(entry, "list");
	if (key != kWalKeysEntry || !get(entry, "active", out.active) || list == nullptr || !list->is_array())
		return false;
	out.keys.clear();
	for (const Json& element : *list) {
		WalKeyDef one;
		if (!read_wal_key(element, one) || (!out.keys.empty() && out.keys.back().generation >= one.generation))
			return false;
		out.keys.push_back(std::move(one));
	}
	return out.active == 0 || out.find(out.active) != nullptr;
}
void write(const WalKeysDef& def, Json& entry)
{
	const Json before = entry.contains("list") ? entry["list"] : Json::array();
	Json list = Json::array();
	for (const WalKeyDef& one : def.keys) {
		Json element = Json::object();
		if (before.is_array())
			for (const Json& b : before) {
				std::uint32_t generation = 0;
				if (get(b, "generation", generation) && generation == one.generation)
					element = b;
			}
		write_wal_key(one, element);
		list.push_back(std::move(element));
	}
	entry["active"] = def.active;
	entry["list"] = std::move(list);
}

} // namespace seal::registry_json
