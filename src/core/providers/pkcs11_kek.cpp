#include "pkcs11_kek.hpp"

#include "seal/crypto.hpp"

namespace seal::pkcs11 {

namespace {

constexpr std::size_t kIdSize = 16;
constexpr CK_ULONG kKeyBytes = 32;

std::string quoted(const std::string& text) { return "'" + text + "'"; }

Result<std::vector<CK_OBJECT_HANDLE>> find(KekContext& context, Template search)
{
	std::vector<CK_OBJECT_HANDLE> found;
	if (const CK_RV rv = find_objects(context.call, search, found); rv != CKR_OK)
		return context.failed(rv);
	return found;
}

Template secret_keys()
{
	Template search;
	search.number(CKA_CLASS, CKO_SECRET_KEY);
	return search;
}

Result<std::vector<CK_OBJECT_HANDLE>> find_by_label(KekContext& context, const std::string& label)
{
	Template search = secret_keys();
	search.text(CKA_LABEL, label);
	return find(context, std::move(search));
}

// Tokens keep HMAC keys as generic secrets or as a type of their own: anything of that id that is not AES.
Result<std::optional<CK_OBJECT_HANDLE>> find_mac_key(KekContext& context, ByteView id)
{
	Template search = secret_keys();
	search.bytes(CKA_ID, id);
	Result<std::vector<CK_OBJECT_HANDLE>> found = find(context, std::move(search));
	if (!found)
		return found.error();
	std::optional<CK_OBJECT_HANDLE> mac;
	for (CK_OBJECT_HANDLE handle : *found) {
		KeyFacts facts;
		if (const CK_RV rv = read_facts(context.call, handle, facts); rv != CKR_OK)
			return context.failed(rv);
		if (facts.key_type == CKK_AES)
			continue;
		if (mac)
			return Error(ErrorCode::key_unfit, "two MAC keys of one id lie in " + context.session.place());
		mac = handle;
	}
	return mac;
}

// Empty when the key is fit to be a KEK.
std::string unfitness(const KeyFacts& facts)
{
	if (facts.key_type != CKK_AES)
		return "is not an AES key";
	if (facts.value_len != kKeyBytes)
		return "is not an AES key of 256 bits";
	if (!facts.sensitive.value_or(false))
		return "is not sensitive: its value can be read";
	if (facts.extractable.value_or(true))
		return "is extractable: it can leave the token";
	if (!facts.on_token.value_or(false))
		return "is not stored in the token";
	return {};
}

constexpr char kFitHint[] =
	"A key-encryption key is an AES-256 secret key with CKA_SENSITIVE and without CKA_EXTRACTABLE: let "
	"create_keyring() make it (create_kek => true), or make such a key by the token's own software.";

enum class Shape { full, plain }; // plain: only attributes that every token knows

Template key_template(const std::string& label, ByteView id, Shape shape)
{
	Template t;
	t.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true).flag(CKA_EXTRACTABLE, false);
	t.text(CKA_LABEL, label).bytes(CKA_ID, id).number(CKA_VALUE_LEN, kKeyBytes);
	if (shape == Shape::full) // nobody who knows the PIN can give it another usage later
		t.flag(CKA_MODIFIABLE, false).flag(CKA_DERIVE, false);
	return t;
}

Template kek_template(const Mechanism& mechanism, const std::string& label, ByteView id, Shape shape)
{
	Template t = key_template(label, id, shape);
	const bool wraps = mechanism.by_wrapping();
	t.flag(CKA_ENCRYPT, !wraps).flag(CKA_DECRYPT, !wraps).flag(CKA_WRAP, wraps).flag(CKA_UNWRAP, wraps);
	if (shape == Shape::full)
		t.flag(CKA_SIGN, false).flag(CKA_VERIFY, false);
	return t;
}

Template mac_template(const std::string& label, ByteView id, Shape shape)
{
	Template t = key_template(label + kMacLabelSuffix, id, shape);
	t.flag(CKA_SIGN, true).flag(CKA_VERIFY, true);
	if (shape == Shape::full)
		t.flag(CKA_ENCRYPT, false).flag(CKA_DECRYPT, false).flag(CKA_WRAP, false).flag(CKA_UNWRAP, false);
	return t;
}

bool rv_is_template(CK_RV rv)
{
	return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
	       rv == CKR_ATTRIBUTE_READ_ONLY;
}

template <class MakeTemplate>
CK_RV generate(Call& call, CK_MECHANISM_TYPE type, MakeTemplate make_template, CK_OBJECT_HANDLE& out)
{
	CK_RV rv = CKR_OK;
	for (Shape shape : {Shape::full, Shape::plain}) {
		CK_MECHANISM mechanism = {type, nullptr, 0};
		Template attributes = make_template(shape);
		call.function = "C_GenerateKey";
		rv = call.api->C_GenerateKey(call.session, &mechanism, attributes.data(), attributes.size(), &out);
		if (!rv_is_template(rv))
			break;
	}
	return rv;
}

// What the token did with our attributes, in its own words; empty when all hold.
std::string broken_promise(const KeyFacts& facts, const Mechanism* mechanism)
{
	if (!facts.always_sensitive.value_or(false) || !facts.sensitive.value_or(false))
		return "is not always sensitive";
	if (!facts.never_extractable.value_or(false) || facts.extractable.value_or(true))
		return "is not never extractable";
	if (!facts.local.value_or(false))
		return "was not generated inside the token";
	if (mechanism && (facts.wrap.value_or(false) || facts.unwrap.value_or(false)) != mechanism->by_wrapping())
		return "has other usages than asked for";
	if (mechanism && (facts.encrypt.value_or(false) || facts.decrypt.value_or(false)) == mechanism->by_wrapping())
		return "has other usages than asked for";
	return {};
}

void destroy(Call& call, const KekHandles& keys)
{
	for (CK_OBJECT_HANDLE handle : {keys.kek, keys.mac})
		if (handle != CK_INVALID_HANDLE)
			call.api->C_DestroyObject(call.session, handle);
}

struct Attempt {
	KekHandles keys;
	std::string reason; // why this mechanism is out; empty: it works
	CK_RV rv = CKR_OK;
	bool refused = false; // the token broke a promise about the key's protection: no other mechanism is tried
};

Attempt attempt_kek(Call& call, const Mechanism& mechanism, const std::string& label, ByteView id)
{
	Attempt attempt;
	const auto failed = [&](CK_RV rv) {
		attempt.rv = rv;
		attempt.reason = std::string(call.function) + " gives " + rv_text(rv);
		return attempt;
	};
	CK_RV rv = generate(
		call, CKM_AES_KEY_GEN, [&](Shape s) { return kek_template(mechanism, label, id, s); }, attempt.keys.kek);
	if (rv == CKR_OK && mechanism.needs_mac_key())
		rv = generate(
			call, CKM_GENERIC_SECRET_KEY_GEN, [&](Shape s) { return mac_template(label, id, s); }, attempt.keys.mac);
	if (rv != CKR_OK)
		return failed(rv);
	for (CK_OBJECT_HANDLE handle : {attempt.keys.kek, attempt.keys.mac}) {
		if (handle == CK_INVALID_HANDLE)
			continue;
		KeyFacts facts;
		if (rv = read_facts(call, handle, facts); rv != CKR_OK)
			return failed(rv);
		attempt.reason = broken_promise(facts, handle == attempt.keys.kek ? &mechanism : nullptr);
		if (!attempt.reason.empty()) {
			attempt.refused = true;
			return attempt;
		}
	}
	rv = try_mechanism(call, mechanism, attempt.keys);
	return rv == CKR_OK ? attempt : failed(rv);
}

// A session of its own for each attempt: a failed one may leave an operation active.
struct TrialSession {
	Call call;
	CK_RV rv;
	TrialSession(const KekContext& context) : call{context.call.api, 0, "C_OpenSession"}
	{
		rv = call.api->C_OpenSession(context.session.token().slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr,
		                             nullptr, &call.session);
	}
	TrialSession(const TrialSession&) = delete;
	TrialSession& operator=(const TrialSession&) = delete;
	~TrialSession()
	{
		if (rv == CKR_OK)
			call.api->C_CloseSession(call.session);
	}
};

Result<CK_OBJECT_HANDLE> one_kek(KekContext& context, const std::string& name, std::vector<CK_OBJECT_HANDLE> found)
{
	if (found.size() == 1)
		return found[0];
	if (found.empty())
		return Error(ErrorCode::key_missing, "key " + name + " is not in " + context.session.place(),
		             "Check the label, and that this is the token in which the key was made.");
	return Error(ErrorCode::key_unfit,
	             "key " + name + " is ambiguous: " + std::to_string(found.size()) + " keys in " +
	                 context.session.place(),
	             "Give each key a label of its own.");
}

} // namespace

Error KekContext::failed(CK_RV code) const
{
	rv = code;
	return {ErrorCode::provider_unreachable,
	        std::string(call.function) + " failed in " + session.place() + ": " + rv_text(code),
	        "Check that the device is connected and healthy; its own log may say more."};
}

CK_RV try_mechanism(Call& call, const Mechanism& mechanism, const KekHandles& keys)
{
	Secret secret(32), back;
	call.function = "drawing a trial secret";
	if (!random_private_bytes(secret.reveal_mutable(RevealToken{})))
		return CKR_FUNCTION_FAILED;
	const Bytes aad = {'t', 'r', 'i', 'a', 'l'};
	WrappedBlob blob;
	CK_RV rv = mechanism.wrap(call, keys, secret, aad, blob);
	if (rv == CKR_OK)
		rv = mechanism.unwrap(call, keys, blob, aad, back);
	if (rv != CKR_OK)
		return rv;
	if (!equal_constant_time(back.reveal(RevealToken{}), secret.reveal(RevealToken{})))
		return CKR_GENERAL_ERROR;
	blob.data[3] ^= 0x10; // a token that lets an altered ciphertext pass is of no use
	if (mechanism.unwrap(call, keys, blob, aad, back) == CKR_OK)
		return CKR_MECHANISM_INVALID;
	return CKR_OK;
}

Result<KekHandles> locate_kek(KekContext& context, const KekRef& kek)
{
	const Mechanism* mechanism = find_mechanism(kek.mechanism);
	Bytes id;
	if (!mechanism || !from_hex(kek.id_hex, id))
		return Error(ErrorCode::invalid_argument,
		             "the reference to key " + quoted(kek.label) + " is not one of a PKCS#11 provider");
	Template search = secret_keys();
	search.number(CKA_KEY_TYPE, CKK_AES);
	if (id.empty())
		search.text(CKA_LABEL, kek.label);
	else
		search.bytes(CKA_ID, id);
	Result<std::vector<CK_OBJECT_HANDLE>> found = find(context, std::move(search));
	if (!found)
		return found.error();
	if (found->empty() && !id.empty()) {
		Result<std::vector<CK_OBJECT_HANDLE>> namesakes = find_by_label(context, kek.label);
		if (namesakes && !namesakes->empty())
			return Error(ErrorCode::key_missing,
			             "key " + quoted(kek.label) + " with id " + kek.id_hex + " is not in " +
			                 context.session.place() + "; a key of that label with another id is",
			             "Put the original key back: another key of the same label cannot open what this one wrapped.");
	}
	Result<CK_OBJECT_HANDLE> handle =
		one_kek(context, quoted(kek.label) + (id.empty() ? "" : " with id " + kek.id_hex), std::move(*found));
	if (!handle)
		return handle.error();
	KekHandles keys{*handle, CK_INVALID_HANDLE};
	if (mechanism->needs_mac_key()) {
		Result<std::optional<CK_OBJECT_HANDLE>> mac = find_mac_key(context, id);
		if (!mac)
			return mac.error();
		if (!*mac)
			return Error(ErrorCode::key_missing,
			             "the MAC key " + quoted(kek.label + kMacLabelSuffix) + " is not in " + context.session.place(),
			             "It belongs to the key-encryption key and must be kept with it.");
		keys.mac = **mac;
	}
	return keys;
}

Result<KekRef> generate_kek(KekContext& context, const std::string& label, bool allow_same_label,
                            const std::vector<WrapMechanism>& preference)
{
	Result<std::vector<CK_OBJECT_HANDLE>> namesakes = find_by_label(context, label);
	if (!namesakes)
		return namesakes.error();
	if (!namesakes->empty() && !allow_same_label)
		return Error(ErrorCode::already_exists,
		             "a key " + quoted(label) + " exists already in " + context.session.place(),
		             "Choose another label (kek => ...), or adopt the existing key with create_kek => false.");
	std::string reasons;
	for (WrapMechanism candidate : preference) {
		const Mechanism& mechanism = *find_mechanism(candidate);
		reasons += reasons.empty() ? "" : "; ";
		reasons += mechanism_name(candidate);
		if (!mechanism.offered(context.call.api, context.session.token().slot)) {
			reasons += ": not offered";
			continue;
		}
		TrialSession trial(context);
		if (trial.rv != CKR_OK) {
			context.call.function = trial.call.function;
			return context.failed(trial.rv);
		}
		Bytes id(kIdSize);
		if (!random_bytes(id))
			return Error(ErrorCode::crypto_failure, "could not draw a key id");
		const Attempt attempt = attempt_kek(trial.call, mechanism, label, id);
		if (attempt.reason.empty())
			return KekRef{label, to_hex(id), candidate};
		{
			TrialSession cleanup(context); // the failed operation may block the trial session
			destroy(cleanup.rv == CKR_OK ? cleanup.call : trial.call, attempt.keys);
		}
		if (attempt.refused)
			return Error(ErrorCode::key_unfit,
			             "the key that " + context.session.place() + " generated " + attempt.reason +
			                 "; it was destroyed",
			             "The token does not protect keys as required: change its policy, or use another token.");
		if (rv_is_stale(attempt.rv)) {
			context.call.function = trial.call.function;
			return context.failed(attempt.rv);
		}
		reasons += ": " + attempt.reason;
	}
	return Error(ErrorCode::unsupported,
	             context.session.place() + " offers no usable wrapping mechanism (" + reasons + ")",
	             "Enable AES-GCM, AES-KEY-WRAP, or AES-CBC-PAD with SHA256-HMAC for this token and user.");
}

Result<KekRef> adopt_existing_kek(KekContext& context, const std::string& label,
                                  const std::vector<WrapMechanism>& preference)
{
	Result<std::vector<CK_OBJECT_HANDLE>> namesakes = find_by_label(context, label);
	if (!namesakes)
		return namesakes.error();
	Result<CK_OBJECT_HANDLE> handle = one_kek(context, quoted(label), std::move(*namesakes));
	if (!handle)
		return handle.error();
	KeyFacts facts;
	if (const CK_RV rv = read_facts(context.call, *handle, facts); rv != CKR_OK)
		return context.failed(rv);
	if (const std::string why = unfitness(facts); !why.empty())
		return Error(ErrorCode::key_unfit, "key " + quoted(label) + " in " + context.session.place() + " " + why,
		             kFitHint);
	const KekRef base{label, to_hex(facts.id), WrapMechanism::none};
	if (!facts.id.empty()) {
		Template search = secret_keys();
		search.number(CKA_KEY_TYPE, CKK_AES).bytes(CKA_ID, facts.id);
		Result<std::vector<CK_OBJECT_HANDLE>> same_id = find(context, std::move(search));
		if (!same_id)
			return same_id.error();
		if (same_id->size() != 1)
			return Error(ErrorCode::key_unfit,
			             "key " + quoted(label) + " shares its id with another key in " + context.session.place(),
			             "Give each key an id of its own.");
	}
	std::string reasons;
	for (WrapMechanism candidate : preference) {
		const Mechanism& mechanism = *find_mechanism(candidate);
		reasons += reasons.empty() ? "" : "; ";
		reasons += mechanism_name(candidate);
		const bool allowed = mechanism.by_wrapping() ? facts.wrap.value_or(false) && facts.unwrap.value_or(false)
		                                             : facts.encrypt.value_or(false) && facts.decrypt.value_or(false);
		if (!allowed || !mechanism.offered(context.call.api, context.session.token().slot)) {
			reasons += allowed ? ": not offered by the token" : ": the key's usage attributes do not allow it";
			continue;
		}
		KekHandles keys{*handle, CK_INVALID_HANDLE};
		if (mechanism.needs_mac_key()) {
			Result<std::optional<CK_OBJECT_HANDLE>> mac = facts.id.empty()
			                                                  ? Result<std::optional<CK_OBJECT_HANDLE>>(std::nullopt)
			                                                  : find_mac_key(context, facts.id);
			if (!mac)
				return mac.error();
			if (!*mac) {
				reasons += ": there is no generic secret key of the same id for the MAC";
				continue;
			}
			keys.mac = **mac;
		}
		TrialSession trial(context);
		CK_RV rv = trial.rv == CKR_OK ? try_mechanism(trial.call, mechanism, keys) : trial.rv;
		if (rv == CKR_OK)
			return KekRef{base.label, base.id_hex, candidate};
		context.call.function = trial.call.function;
		if (rv_is_stale(rv))
			return context.failed(rv);
		reasons += ": " + std::string(trial.call.function) + " gives " + rv_text(rv);
	}
	return Error(
		ErrorCode::unsupported,
		"key " + quoted(label) + " in " + context.session.place() + " cannot wrap keys (" + reasons + ")",
		"Give the key CKA_ENCRYPT and CKA_DECRYPT (or CKA_WRAP and CKA_UNWRAP), or let create_keyring() make one.");
}

} // namespace seal::pkcs11
