#include "key_wrapping.hpp"

#include "../guard.hpp"
#include "../guc.hpp"
#include "../vault/vault.hpp"

#include "seal/crypto.hpp"

extern "C" {
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace seal::pg {

namespace {

[[noreturn]] void crypto_failed()
{
	raise(Error(ErrorCode::crypto_failure, "the cryptographic library refused an operation",
	            "Check the OpenSSL configuration of the server."));
}

[[noreturn]] void bad_answer(const ProviderDef& provider)
{
	raise(Error(ErrorCode::protocol, "provider \"" + provider.name + "\" gave an answer that does not fit the question"));
}

std::string digest_of(const Secret& secret)
{
	std::uint8_t digest[kSha256Size];
	if (!sha256(secret.reveal(RevealToken{}), digest))
		crypto_failed();
	return to_hex(digest);
}

bool same(const Secret& a, const Secret& b)
{
	return equal_constant_time(a.reveal(RevealToken{}), b.reveal(RevealToken{}));
}

} // namespace

AgentRequest request_to(const ProviderDef& provider, AgentOp op)
{
	AgentRequest request;
	request.op = op;
	request.provider_name = provider.name;
	request.provider_kind = provider.kind;
	request.provider_config = provider.config_json;
	return request;
}

Secret new_keyring_key()
{
	Secret key(kKeyringKeySize);
	if (!random_private_bytes(key.reveal_mutable(RevealToken{})))
		crypto_failed();
	return key;
}

std::string new_uuid_hex()
{
	std::uint8_t bytes[16];
	if (!random_bytes(bytes))
		crypto_failed();
	return to_hex(bytes);
}

WrappedBlob wrap_checked(const ProviderDef& provider, const KekRef& kek, const Secret& key, const Bytes& aad)
{
	AgentRequest request = request_to(provider, AgentOp::wrap);
	request.kek = kek;
	request.aad = aad;
	request.secrets.push_back(Secret::copy_of(key.reveal(RevealToken{})));
	AgentReply reply = agent_call(std::move(request));
	if (reply.blobs.size() != 1)
		bad_answer(provider);
	WrappedBlob blob = std::move(reply.blobs.front());
	if (!same(unwrap_key(provider, kek, blob, aad), key))
		raise(Error(ErrorCode::key_mismatch, "provider \"" + provider.name + "\" did not return the key that it was given to wrap",
		            "Do not use this provider: keys that it wraps would be lost."));
	return blob;
}

Secret unwrap_key(const ProviderDef& provider, const KekRef& kek, const WrappedBlob& blob, const Bytes& aad)
{
	AgentRequest request = request_to(provider, AgentOp::unwrap);
	request.kek = kek;
	request.aad = aad;
	request.blobs.push_back(blob);
	AgentReply reply = agent_call(std::move(request));
	if (reply.secrets.size() != 1 || reply.secrets.front().size() != kKeyringKeySize)
		bad_answer(provider);
	return std::move(reply.secrets.front());
}

KekVersion make_kek_version(const ProviderDef& provider, KekSource source, const std::string& label,
                            const std::string& keyring_uuid, std::uint32_t version)
{
	AgentRequest request = request_to(provider, source == KekSource::created ? AgentOp::create_kek : AgentOp::adopt_kek);
	request.label = label;
	request.allow_same_label = version > 1; // a rotated KEK keeps the label of its first version
	const AgentReply reply = agent_call(std::move(request));

	const Secret check = new_keyring_key();
	KekVersion kek;
	kek.version = version;
	kek.provider = provider.name;
	kek.ref = reply.kek;
	kek.check = wrap_checked(provider, kek.ref, check, kek_check_aad(keyring_uuid, version));
	kek.check_digest = digest_of(check);
	kek.created_at = GetCurrentTimestamp() +
	                 (static_cast<std::int64_t>(POSTGRES_EPOCH_JDATE) - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	kek.state = "active";
	return kek;
}

void verify_kek(const ProviderDef& provider, const KeyringDef& keyring, const KekVersion& kek)
{
	const auto mismatch = [&] {
		raise(Error(ErrorCode::key_mismatch,
		            "the key in provider \"" + provider.name + "\" is not the one that wrapped keyring \"" + keyring.name + "\"",
		            "Point the provider at the token that holds the keyring's own key."));
	};
	try {
		if (digest_of(unwrap_key(provider, kek.ref, kek.check, kek_check_aad(keyring.uuid_hex, kek.version))) != kek.check_digest)
			mismatch();
	} catch (const SealError& e) {
		if (e.error.code == ErrorCode::authentication_failed)
			mismatch();
		throw;
	}
}

namespace {

// No C++ object lives here: waiting may raise.
bool wait_in_postgres(std::uint32_t keyring_id, std::uint32_t version)
{
	constexpr long kPollMs = 5;
	const TimestampTz give_up = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), guc_provider_timeout_ms);
	for (;;) {
		uint8 key[kKeyringKeySize];
		const bool loaded = vault_get_keyring_key(keyring_id, version, key);
		wipe(key, sizeof key);
		if (loaded || GetCurrentTimestamp() >= give_up)
			return loaded;
		(void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kPollMs, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

} // namespace

bool wait_for_keyring_key(std::uint32_t keyring_id, std::uint32_t version)
{
	agent_want_keyring(keyring_id);
	agent_wake();
	return pg_call([&] { return wait_in_postgres(keyring_id, version); });
}

const char* mechanism_name(WrapMechanism mechanism) noexcept
{
	switch (mechanism) {
	case WrapMechanism::none: break;
	case WrapMechanism::local_aes_gcm: return "AES-256-GCM";
	case WrapMechanism::pkcs11_aes_gcm: return "CKM_AES_GCM";
	case WrapMechanism::pkcs11_aes_kw: return "CKM_AES_KEY_WRAP";
	case WrapMechanism::pkcs11_cbc_hmac: return "CKM_AES_CBC_PAD + HMAC";
	case WrapMechanism::kmip_aes_gcm: return "KMIP AES-GCM";
	}
	return "none";
}

const char* cipher_name(CipherId cipher) noexcept
{
	switch (cipher) {
	case CipherId::none: break;
	case CipherId::aes_256_xts: return "aes-256-xts";
	case CipherId::aes_128_xts: return "aes-128-xts";
	case CipherId::throwaway: break; // lives in memory, in recovery only
	}
	return "none";
}

} // namespace seal::pg
