// One logged-in session with a provider's token, kept open: closing the last session logs the process out.
//
// ready() gives a usable handle, connecting or reconnecting as needed. After any failed call the owner marks the
// session broken (a token may leave an operation active in it); the next ready() then opens another one before it
// closes the broken one, which keeps the login. Losing the module's epoch, the device or the login leads to a new
// login.
#pragma once

#include "pkcs11_token.hpp"

namespace seal::pkcs11 {

class Session {
public:
	explicit Session(const Config& config) : config_(config) {}
	Session(const Session&) = delete;
	Session& operator=(const Session&) = delete;
	~Session();

	Result<CK_SESSION_HANDLE> ready();
	void mark_broken() noexcept { broken_ = true; }
	// Proves the configuration as it is now: reads the PIN anew and logs in again if it is not the one that is logged
	// in.
	Status prove();

	CK_FUNCTION_LIST* api() const noexcept { return module_->api(); } // after a successful ready()
	const TokenInfo& token() const noexcept { return token_; }
	const Module* module() const noexcept { return module_; }
	const std::string& warning() const noexcept { return warning_; }
	std::string place() const; // "token 'seal' of PKCS#11 module \"...\""

private:
	Status connect(bool prove_pin);
	Status connect_locked(const Pin& pin, bool prove_pin, Deadline deadline);
	Result<TokenInfo> find_patiently(Deadline deadline);
	Result<CK_SESSION_HANDLE> open_session();
	Status login(CK_SESSION_HANDLE session, const Pin& pin, const PinDigest& digest);
	bool current() const noexcept { return handle_ != 0 && module_ && epoch_ == module_->epoch(); }
	bool replace_broken();
	void close() noexcept;

	const Config& config_;
	Module* module_ = nullptr;
	std::uint64_t epoch_ = 0;
	CK_SESSION_HANDLE handle_ = 0;
	bool broken_ = false;
	TokenInfo token_;
	std::string warning_;
};

} // namespace seal::pkcs11
