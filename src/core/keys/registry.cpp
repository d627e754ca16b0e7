#include "seal/registry.hpp"

#include "registry_json.hpp"

#include "seal/codec.hpp"
#include "seal/crypto.hpp"

#include <algorithm>
#include <cstring>

namespace seal {

namespace {

constexpr std::uint64_t kRegistryFormat = 1;
constexpr std::uint8_t kChangeFormat = 1; // in WAL
constexpr std::string_view kDigestPrefix = "sha256:";
constexpr char kProviders[] = "providers";
constexpr char kKeyrings[] = "keyrings";
constexpr char kTablespaces[] = "tablespaces";
constexpr char kOperations[] = "operations";
constexpr char kWal[] = "wal";
constexpr char kCounters[] = "counters";

Error corrupt(std::string what)
{
	return {ErrorCode::corrupt, "registry " + std::string(kRegistryPath) + " is damaged: " + std::move(what),
	        "Restore the file from a backup taken after its last change, or from a standby."};
}

bool digest_hex(std::string_view text, std::string& out)
{
	std::uint8_t digest[kSha256Size];
	if (!sha256(as_bytes(text), digest))
		return false;
	out = to_hex(digest);
	return true;
}

template <class Def> bool entry_fits(const std::string& key, const Json& entry)
{
	Def def;
	return registry_json::read(key, entry, def);
}

// Entries of sections that a newer version added are kept as they are.
bool entry_ok(const std::string& section, const std::string& key, const Json& entry)
{
	if (section == kProviders)
		return entry_fits<ProviderDef>(key, entry);
	if (section == kKeyrings)
		return entry_fits<KeyringDef>(key, entry);
	if (section == kTablespaces)
		return entry_fits<TablespacePolicy>(key, entry);
	if (section == kOperations)
		return entry_fits<OperationDef>(key, entry);
	if (section == kWal)
		return entry_fits<WalKeysDef>(key, entry);
	if (section == kCounters)
		return entry.is_number_unsigned();
	return true;
}

} // namespace

struct Registry::Document {
	Json root;

	Document()
	{
		root = Json::object();
		root["format"] = kRegistryFormat;
		root["sequence"] = std::uint64_t{0};
		for (const char* section : {kProviders, kKeyrings, kTablespaces, kOperations, kWal, kCounters})
			root[section] = Json::object();
	}
	std::uint64_t sequence() const { return root["sequence"].get<std::uint64_t>(); }
	const Json* find(const std::string& section, const std::string& key) const
	{
		const auto s = root.find(section);
		if (s == root.end() || !s->is_object())
			return nullptr;
		const auto e = s->find(key);
		return e == s->end() ? nullptr : &*e;
	}
	template <class Def> std::vector<Def> list(const char* section) const
	{
		std::vector<Def> out;
		for (const auto& [key, entry] : root[section].items()) {
			Def def;
			if (registry_json::read(key, entry, def)) // always: parse() and apply() let nothing else in
				out.push_back(std::move(def));
		}
		return out;
	}
	std::vector<OperationDef> operations() const
	{
		std::vector<OperationDef> out = list<OperationDef>(kOperations);
		std::sort(out.begin(), out.end(), [](const OperationDef& a, const OperationDef& b) { return a.id < b.id; });
		return out;
	}
	void drop_old_operations()
	{
		const std::vector<OperationDef> all = operations();
		std::size_t surplus = static_cast<std::size_t>(
			std::count_if(all.begin(), all.end(), [](const OperationDef& o) { return o.finished(); }));
		for (const OperationDef& o : all)
			if (o.finished() && surplus-- > kFinishedOperationsKept)
				root[kOperations].erase(std::to_string(o.id));
	}
	template <class Def> RegistryChange change(const char* section, std::string key, const Def& def) const
	{
		const Json* const existing = find(section, key);
		Json entry = existing != nullptr && existing->is_object() ? *existing : Json::object();
		registry_json::write(def, entry);
		return {sequence() + 1, section, std::move(key), json_print(entry)};
	}
};

Registry::Registry() : document_(std::make_unique<Document>()) {}
Registry::Registry(Registry&&) noexcept = default;
Registry& Registry::operator=(Registry&&) noexcept = default;
Registry::~Registry() = default;

Result<Registry> Registry::parse(std::string_view file_text)
{
	const std::size_t line_size = kDigestPrefix.size() + 2 * kSha256Size + 1;
	if (file_text.size() < line_size || file_text.back() != '\n')
		return corrupt("it is truncated");
	const std::string_view text = file_text.substr(0, file_text.size() - line_size);
	const std::string_view line = file_text.substr(text.size());
	std::string digest;
	if (!digest_hex(text, digest))
		return Error{ErrorCode::crypto_failure, "could not compute a SHA-256 digest"};
	if (line.substr(0, kDigestPrefix.size()) != kDigestPrefix ||
	    line.substr(kDigestPrefix.size(), digest.size()) != digest)
		return corrupt("its digest does not fit its content");

	std::optional<Json> root = json_parse(text);
	if (!root || !root->is_object())
		return corrupt("it is not a JSON object");
	const auto format = root->find("format");
	if (format == root->end() || !format->is_number_unsigned())
		return corrupt("it names no format");
	if (format->get<std::uint64_t>() != kRegistryFormat)
		return Error{ErrorCode::corrupt,
		             "registry " + std::string(kRegistryPath) + " has format " + json_print(*format) +
		                 ", this version reads format " + std::to_string(kRegistryFormat),
		             "Run the version of pg_seal that wrote it, or a newer one."};
	const auto sequence = root->find("sequence");
	if (sequence == root->end() || !sequence->is_number_unsigned())
		return corrupt("it has no sequence");
	for (const char* section : {kProviders, kKeyrings, kTablespaces, kOperations, kWal, kCounters}) {
		Json& entries = (*root)[section];
		if (entries.is_null())
			entries = Json::object();
		if (!entries.is_object())
			return corrupt("\"" + std::string(section) + "\" is not an object");
		for (const auto& [key, entry] : entries.items())
			if (!entry_ok(section, key, entry))
				return corrupt("entry \"" + key + "\" of \"" + section + "\" is malformed");
	}
	Registry registry;
	registry.document_->root = std::move(*root);
	return registry;
}

std::string Registry::serialise() const
{
	std::string text = document_->root.dump(1, '\t') + '\n';
	std::string digest;
	if (!digest_hex(text, digest))
		return {};
	text.append(kDigestPrefix).append(digest).push_back('\n');
	return text;
}

std::uint64_t Registry::sequence() const { return document_->sequence(); }

std::vector<ProviderDef> Registry::providers() const { return document_->list<ProviderDef>(kProviders); }

std::vector<KeyringDef> Registry::keyrings() const
{
	std::vector<KeyringDef> out = document_->list<KeyringDef>(kKeyrings);
	std::sort(out.begin(), out.end(), [](const KeyringDef& a, const KeyringDef& b) { return a.id < b.id; });
	return out;
}

std::vector<TablespacePolicy> Registry::tablespaces() const { return document_->list<TablespacePolicy>(kTablespaces); }

std::vector<OperationDef> Registry::operations() const { return document_->operations(); }

std::optional<OperationDef> Registry::operation(std::uint64_t id) const
{
	const std::string key = std::to_string(id);
	const Json* const entry = document_->find(kOperations, key);
	OperationDef def;
	if (entry == nullptr || !registry_json::read(key, *entry, def))
		return std::nullopt;
	return def;
}

WalKeysDef Registry::wal_keys() const
{
	const Json* const entry = document_->find(kWal, registry_json::kWalKeysEntry);
	WalKeysDef def;
	if (entry != nullptr)
		(void) registry_json::read(registry_json::kWalKeysEntry, *entry, def); // parse() and apply() let nothing else in
	return def;
}

std::uint64_t Registry::counter(const std::string& name) const
{
	const Json* const value = document_->find(kCounters, name);
	return value != nullptr ? value->get<std::uint64_t>() : 0;
}

RegistryChange Registry::put(const ProviderDef& def) const { return document_->change(kProviders, def.name, def); }
RegistryChange Registry::put(const KeyringDef& def) const
{
	return document_->change(kKeyrings, std::to_string(def.id), def);
}
RegistryChange Registry::put(const TablespacePolicy& def) const
{
	return document_->change(kTablespaces, std::to_string(def.tablespace), def);
}
RegistryChange Registry::put(const OperationDef& def) const
{
	return document_->change(kOperations, std::to_string(def.id), def);
}
RegistryChange Registry::put(const WalKeysDef& def) const { return document_->change(kWal, registry_json::kWalKeysEntry, def); }
RegistryChange Registry::put_counter(const std::string& name, std::uint64_t value) const
{
	return {sequence() + 1, kCounters, name, std::to_string(value)};
}
RegistryChange Registry::remove(const std::string& section, const std::string& key) const
{
	return {sequence() + 1, section, key, {}};
}

Status Registry::apply(const RegistryChange& change)
{
	Json& root = document_->root;
	if (change.sequence <= sequence())
		return ok_status();
	const auto section = root.find(change.section);
	if (change.section.empty() || change.key.empty() || !is_utf8(change.section) || !is_utf8(change.key) ||
	    (section != root.end() && !section->is_object()))
		return Error{ErrorCode::invalid_argument, "a change of the registry names no section and entry in UTF-8"};
	if (change.value.empty()) {
		if (section != root.end())
			section->erase(change.key);
	} else {
		std::optional<Json> entry = json_parse(change.value);
		if (!entry || !entry_ok(change.section, change.key, *entry))
			return Error{ErrorCode::invalid_argument,
			             "a change of the registry carries a malformed entry of \"" + change.section + "\""};
		root[change.section][change.key] = std::move(*entry);
		// Here, not in a change of its own: every node does it alike, and the file cannot grow without bound.
		if (change.section == kOperations)
			document_->drop_old_operations();
	}
	root["sequence"] = change.sequence;
	return ok_status();
}

Bytes RegistryChange::encode() const
{
	Writer w;
	w.u8(kChangeFormat);
	w.u64(sequence);
	w.text(section);
	w.text(key);
	w.text(value);
	return w.take();
}

Result<RegistryChange> RegistryChange::decode(ByteView bytes)
{
	Reader r(bytes);
	RegistryChange change;
	const std::uint8_t format = r.u8();
	change.sequence = r.u64();
	change.section = r.text();
	change.key = r.text();
	change.value = r.text();
	if (!r.at_end() || format != kChangeFormat)
		return Error{ErrorCode::corrupt, "a logged change of the registry is malformed"};
	return change;
}

} // namespace seal
