#include "pkcs11_session.hpp"

#include "pkcs11_init_lock.hpp"

#include <poll.h>

namespace seal::pkcs11 {

namespace {

constexpr std::chrono::seconds kPinDeadline{10};
constexpr std::chrono::seconds kLockDeadline{3};
constexpr std::chrono::milliseconds kTokenPatience{1000};
constexpr int kTokenPause_ms = 50;

Deadline after(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

constexpr char kPinHint[] =
	"Correct the PIN in the provider's pin_file or pin_command; a rejected one is not sent again.";

} // namespace

Session::~Session() { close(); }

void Session::close() noexcept
{
	if (current())
		module_->api()->C_CloseSession(handle_);
	handle_ = 0;
}

std::string Session::place() const
{
	return "token " + config_.token.text() + " of PKCS#11 module \"" + config_.module_path + "\"";
}

Result<CK_SESSION_HANDLE> Session::ready()
{
	Result<Module*> module = Module::load(config_.module_path, config_.environment);
	if (!module)
		return module.error();
	module_ = *module;
	if (Status status = module_->activate(config_.environment); !status)
		return status.error();
	if (current() && (!broken_ || replace_broken()))
		return handle_;
	if (Status status = connect(false); !status)
		return status.error();
	return handle_;
}

Status Session::prove()
{
	Result<Module*> module = Module::load(config_.module_path, config_.environment);
	if (!module)
		return module.error();
	module_ = *module;
	return connect(true);
}

bool Session::replace_broken()
{
	CK_SESSION_HANDLE fresh = 0;
	CK_SESSION_INFO info{};
	CK_FUNCTION_LIST* api = module_->api();
	if (api->C_OpenSession(token_.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &fresh) != CKR_OK)
		return false;
	const bool logged_in = api->C_GetSessionInfo(fresh, &info) == CKR_OK &&
	                       (info.state == CKS_RW_USER_FUNCTIONS || !(token_.flags & CKF_LOGIN_REQUIRED));
	api->C_CloseSession(logged_in ? handle_ : fresh);
	if (logged_in) {
		handle_ = fresh;
		broken_ = false;
	}
	return logged_in;
}

Status Session::connect(bool prove_pin)
{
	Pin pin;
	if (config_.pin.configured()) { // before the lock: a command may take its time
		Result<Pin> read = read_pin(config_.pin, after(kPinDeadline));
		if (!read)
			return read.error();
		pin = std::move(*read);
	}
	warning_ = pin.warning;
	InitLock lock(config_.module_path, after(kLockDeadline));
	if (Status status = module_->activate(config_.environment); !status)
		return status;
	return connect_locked(pin, prove_pin, after(kTokenPatience));
}

// A token may be missing for a moment (see InitLock; other programs do not take our lock), or have come after
// C_Initialize.
Result<TokenInfo> Session::find_patiently(Deadline deadline)
{
	for (;;) {
		Result<TokenInfo> token = find_token(*module_, config_.token);
		if (token || token.error().code != ErrorCode::provider_unreachable ||
		    std::chrono::steady_clock::now() >= deadline)
			return token;
		poll(nullptr, 0, kTokenPause_ms);
		if (Status status = module_->reinitialise(); !status)
			return status.error();
	}
}

Status Session::connect_locked(const Pin& pin, bool prove_pin, Deadline deadline)
{
	Result<TokenInfo> token = find_patiently(deadline);
	if (!token)
		return token.error();
	PinDigest digest{};
	if (!pin_digest(config_.module_path, token->serial, pin.value, digest))
		return Error(ErrorCode::crypto_failure, "could not compute the digest of a PIN");

	const auto login_now = module_->logins().find(token->slot);
	if (login_now != module_->logins().end() && login_now->second != digest) { // logged in with another PIN
		if (Status status = module_->reinitialise(); !status)
			return status;
		token = find_patiently(deadline);
		if (!token)
			return token.error();
	} else if (prove_pin && current() && !broken_ && login_now != module_->logins().end()) {
		CK_SESSION_INFO info{};
		if (module_->api()->C_GetSessionInfo(handle_, &info) == CKR_OK && info.state == CKS_RW_USER_FUNCTIONS)
			return ok_status(); // logged in, with this very PIN
	}
	token_ = *token;
	Result<CK_SESSION_HANDLE> fresh = open_session();
	if (!fresh)
		return fresh.error();
	Status status = login(*fresh, pin, digest);
	if (!status) {
		module_->api()->C_CloseSession(*fresh);
		return status;
	}
	close(); // after the new one is open: the login survives
	handle_ = *fresh;
	epoch_ = module_->epoch();
	broken_ = false;
	return ok_status();
}

Result<CK_SESSION_HANDLE> Session::open_session()
{
	CK_SESSION_HANDLE handle = 0;
	CK_RV rv =
		module_->api()->C_OpenSession(token_.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &handle);
	if (rv == CKR_TOKEN_WRITE_PROTECTED) // enough for wrapping and unwrapping
		rv = module_->api()->C_OpenSession(token_.slot, CKF_SERIAL_SESSION, nullptr, nullptr, &handle);
	if (rv != CKR_OK)
		return Error(ErrorCode::provider_unreachable, "could not open a session with " + place() + ": " + rv_text(rv),
		             rv == CKR_SESSION_COUNT ? "The token serves no more sessions: end other programs that use it."
		                                     : "Check that the device is connected and its service is running.");
	return handle;
}

Status Session::login(CK_SESSION_HANDLE session, const Pin& pin, const PinDigest& digest)
{
	if (!config_.pin.configured()) {
		if (!(token_.flags & CKF_LOGIN_REQUIRED))
			return ok_status();
		return Error(ErrorCode::invalid_argument, place() + " requires a PIN, and the provider names none",
		             "Set \"pin_file\" or \"pin_command\" in the provider.");
	}
	if (pin_was_rejected(digest))
		return Error(ErrorCode::pin_incorrect, place() + " rejected this PIN before; it is not tried again", kPinHint);
	if (token_.flags & CKF_USER_PIN_FINAL_TRY)
		return Error(ErrorCode::pin_incorrect, place() + " has one attempt left before it locks; the PIN was not tried",
		             "Log in once with the right PIN by the token's own software, which resets the count.");
	const ByteView bytes = pin.value.reveal(RevealToken{});
	const CK_RV rv = module_->api()->C_Login(session, CKU_USER, const_cast<CK_UTF8CHAR_PTR>(bytes.data()),
	                                         static_cast<CK_ULONG>(bytes.size()));
	switch (rv) {
	case CKR_OK: module_->logins()[token_.slot] = digest; return ok_status();
	case CKR_USER_ALREADY_LOGGED_IN: return ok_status();
	case CKR_PIN_INCORRECT:
	case CKR_PIN_INVALID:
	case CKR_PIN_LEN_RANGE:
		remember_rejected_pin(digest);
		return Error(ErrorCode::pin_incorrect, place() + " rejected the PIN", kPinHint);
	case CKR_PIN_LOCKED:
		return Error(ErrorCode::pin_incorrect, place() + " has locked the PIN after too many wrong attempts",
		             "Unlock it with the security officer's PIN by the token's own software.");
	case CKR_PIN_EXPIRED:
	case CKR_USER_PIN_NOT_INITIALIZED:
		return Error(ErrorCode::pin_incorrect, place() + " has no valid user PIN: " + rv_text(rv),
		             "Set the user PIN by the token's own software.");
	default:
		return Error(ErrorCode::provider_unreachable, "could not log in to " + place() + ": " + rv_text(rv),
		             "Check that the device is connected and its service is running.");
	}
}

} // namespace seal::pkcs11
