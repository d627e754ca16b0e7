// The PKCS#11 implementation of Provider: one token, one session kept open, connected at the first call and again
// whenever the token lost it. Not for more than one thread.
#pragma once

#include "pkcs11_kek.hpp"
#include "pkcs11_session.hpp"

namespace seal::pkcs11 {

class TokenProvider final : public Provider {
public:
	explicit TokenProvider(Config config) : config_(std::move(config)), session_(config_) {}

	std::vector<EndpointStatus> check() override;
	Result<KekRef> create_kek(const std::string& label, bool allow_same_label) override;
	Result<KekRef> adopt_kek(const std::string& label) override;
	Result<std::vector<WrappedBlob>> wrap(const KekRef& kek, std::span<const Secret> secrets, ByteView aad) override;
	Result<std::vector<Secret>> unwrap(const KekRef& kek, std::span<const WrappedBlob> blobs, ByteView aad) override;

private:
	// Runs `body(Call&)` (a Result) with a session; on a stale session once more with a new one.
	template <class Body> auto with_session(Body body) -> decltype(body(std::declval<Call&>()));
	Status allow_label(const std::string& label) const;
	Error call_failed(const Call& call, CK_RV rv) const;
	Error unwrap_failed(const KekRef& kek, const Call& call, CK_RV rv);

	const Config config_;
	Session session_;
	CK_RV last_rv_ = CKR_OK; // of the call that made the body fail, CKR_OK when it failed by itself
};

} // namespace seal::pkcs11
