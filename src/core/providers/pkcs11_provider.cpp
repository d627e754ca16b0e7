#include "pkcs11_provider.hpp"

#include <chrono>

namespace seal::pkcs11 {

template <class Body> auto TokenProvider::with_session(Body body) -> decltype(body(std::declval<Call&>()))
{
	for (int attempt = 0;; ++attempt) {
		Result<CK_SESSION_HANDLE> handle = session_.ready();
		if (!handle)
			return handle.error();
		Call call{session_.api(), *handle};
		last_rv_ = CKR_OK;
		auto result = body(call);
		if (result)
			return result;
		if (last_rv_ != CKR_OK)
			session_.mark_broken();
		if (attempt > 0 || !rv_is_stale(last_rv_))
			return result;
	}
}

Status TokenProvider::allow_label(const std::string& label) const
{
	if (label.empty() || label.size() > 200)
		return Error(ErrorCode::invalid_argument, "the label of a key-encryption key has 1 to 200 bytes");
	if (config_.only_label && *config_.only_label != label)
		return Error(ErrorCode::invalid_argument,
		             "the provider's URI names the object '" + *config_.only_label + "', not '" + label + "'",
		             "Pass kek => '" + *config_.only_label + "', or take 'object' out of the URI.");
	return ok_status();
}

Error TokenProvider::call_failed(const Call& call, CK_RV rv) const
{
	return {rv_is_stale(rv) || rv_may_be_device(rv) ? ErrorCode::provider_unreachable : ErrorCode::crypto_failure,
	        std::string(call.function) + " failed in " + session_.place() + ": " + rv_text(rv),
	        "Check that the device is connected and healthy; its own log may say more."};
}

Result<KekRef> TokenProvider::create_kek(const std::string& label, bool allow_same_label)
{
	if (Status status = allow_label(label); !status)
		return status.error();
	return with_session([&](Call& call) {
		KekContext context{call, session_, last_rv_};
		return generate_kek(context, label, allow_same_label, config_.mechanisms);
	});
}

Result<KekRef> TokenProvider::adopt_kek(const std::string& label)
{
	if (Status status = allow_label(label); !status)
		return status.error();
	return with_session([&](Call& call) {
		KekContext context{call, session_, last_rv_};
		return adopt_existing_kek(context, label, config_.mechanisms);
	});
}

Result<std::vector<WrappedBlob>> TokenProvider::wrap(const KekRef& kek, std::span<const Secret> secrets, ByteView aad)
{
	using Blobs = std::vector<WrappedBlob>;
	return with_session([&](Call& call) -> Result<Blobs> {
		KekContext context{call, session_, last_rv_};
		Result<KekHandles> keys = locate_kek(context, kek);
		if (!keys)
			return keys.error();
		const Mechanism& mechanism = *find_mechanism(kek.mechanism);
		Blobs blobs;
		blobs.reserve(secrets.size());
		for (const Secret& secret : secrets) {
			if (!mechanism.accepts_size(secret.size()))
				return Error(ErrorCode::invalid_argument, std::string("a secret of ") + std::to_string(secret.size()) +
				                                              " bytes cannot be wrapped by " +
				                                              mechanism_name(kek.mechanism));
			last_rv_ = mechanism.wrap(call, *keys, secret, aad, blobs.emplace_back());
			if (last_rv_ != CKR_OK)
				return call_failed(call, last_rv_);
		}
		return blobs;
	});
}

Result<std::vector<Secret>> TokenProvider::unwrap(const KekRef& kek, std::span<const WrappedBlob> blobs, ByteView aad)
{
	using Secrets = std::vector<Secret>;
	Call failed{};
	Result<Secrets> result = with_session([&](Call& call) -> Result<Secrets> {
		KekContext context{call, session_, last_rv_};
		Result<KekHandles> keys = locate_kek(context, kek);
		if (!keys)
			return keys.error();
		const Mechanism& mechanism = *find_mechanism(kek.mechanism);
		Secrets secrets;
		secrets.reserve(blobs.size());
		for (const WrappedBlob& blob : blobs) {
			last_rv_ = blob.mechanism == kek.mechanism
			               ? mechanism.unwrap(call, *keys, blob, aad, secrets.emplace_back())
			               : CKR_ENCRYPTED_DATA_INVALID;
			if (last_rv_ != CKR_OK) {
				failed = call;
				return call_failed(call, last_rv_);
			}
		}
		return secrets;
	});
	if (!result && failed.api && rv_is_authentication(last_rv_))
		return unwrap_failed(kek, failed, last_rv_);
	return result;
}

// "General error" may mean a wrong tag or a dying device: a key that wraps and unwraps something else right now is
// alive.
Error TokenProvider::unwrap_failed(const KekRef& kek, const Call& call, CK_RV rv)
{
	bool alive = !rv_may_be_device(rv);
	if (!alive) {
		const Result<Unit> trial = with_session([&](Call& fresh) -> Status {
			KekContext context{fresh, session_, last_rv_};
			Result<KekHandles> keys = locate_kek(context, kek);
			if (!keys)
				return keys.error();
			last_rv_ = try_mechanism(fresh, *find_mechanism(kek.mechanism), *keys);
			if (last_rv_ != CKR_OK)
				return call_failed(fresh, last_rv_);
			return ok_status();
		});
		session_.mark_broken(); // the trial ends in a refused call on purpose
		alive = trial.ok();
	}
	if (!alive)
		return call_failed(call, rv);
	return {ErrorCode::authentication_failed,
	        "a key wrapped by '" + kek.label + "' does not verify in " + session_.place() +
	            ": wrong key-encryption key, wrong context "
	            "or altered bytes",
	        "Check that the provider names the token in which this key-encryption key was made, and that its key was "
	        "not replaced."};
}

std::vector<EndpointStatus> TokenProvider::check()
{
	using Clock = std::chrono::steady_clock;
	EndpointStatus status;
	status.endpoint = "token " + config_.token.text() + ", module " + config_.module_path;
	const auto failed = [&](const Error& error) {
		status.ok = false;
		status.detail = error.message + (error.hint.empty() ? "" : ". " + error.hint);
		return std::vector<EndpointStatus>{status};
	};
	if (Status proven = session_.prove(); !proven)
		return failed(proven.error());
	const TokenInfo& token = session_.token();
	status.endpoint = "token '" + token.label + "', serial " + token.serial + ", slot " + std::to_string(token.slot) +
	                  ", module " + config_.module_path;
	const auto begin = Clock::now();
	Status searched = with_session([&](Call& call) -> Status {
		Template search;
		search.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
		std::vector<CK_OBJECT_HANDLE> keys;
		last_rv_ = find_objects(call, search, keys);
		if (last_rv_ != CKR_OK)
			return call_failed(call, last_rv_);
		status.detail = "logged in; AES keys: " + std::to_string(keys.size());
		return ok_status();
	});
	if (!searched)
		return failed(searched.error());
	status.latency_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
	std::string offered;
	for (WrapMechanism id : config_.mechanisms)
		if (find_mechanism(id)->offered(session_.api(), token.slot))
			offered += (offered.empty() ? "" : ", ") + std::string(mechanism_name(id));
	status.ok = !offered.empty();
	status.detail += offered.empty() ? "; no usable wrapping mechanism is offered" : "; mechanisms: " + offered;
	if (!session_.warning().empty())
		status.detail += "; warning: " + session_.warning();
	if (token_flags(*session_.module(), token.slot).value_or(0) & CKF_USER_PIN_COUNT_LOW)
		status.detail += "; warning: a wrong PIN was entered since the last login";
	return {status};
}

} // namespace seal::pkcs11
