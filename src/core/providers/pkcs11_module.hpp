// A loaded PKCS#11 library. One per path and process, never unloaded: vendor libraries keep threads and exit handlers.
//
// Every session of a module dies when it is initialised again; that is counted as `epoch`, and a Session whose epoch
// is not the module's forgets its handle and connects anew. The module is initialised again when
//   - a provider brings another environment (SoftHSM reads its configuration in C_Initialize, not later),
//   - a token is looked for that came after C_Initialize,
//   - another PIN must be proven while the process is logged in (PKCS#11 would answer "already logged in" to any PIN).
// Never used across a fork: only `pgseal` loads modules.
#pragma once

#include "pkcs11_api.hpp"
#include "pkcs11_config.hpp"
#include "pkcs11_pin.hpp"

#include <map>
#include <optional>

namespace seal::pkcs11 {

class Module {
public:
	// Sets the environment, loads the library if this process has not, and does not initialise it yet.
	static Result<Module*> load(const std::string& path, const Environment& environment);

	Status activate(const Environment& environment); // initialised, under this environment
	Status reinitialise();                           // finalised if need be, and initialised; a new epoch

	CK_FUNCTION_LIST* api() const noexcept { return api_; }
	const std::string& path() const noexcept { return path_; }
	std::uint64_t epoch() const noexcept { return epoch_; }

	// Which PIN the process is logged in with, by slot; forgotten with the epoch.
	std::map<CK_SLOT_ID, PinDigest>& logins() noexcept { return logins_; }

private:
	Module(std::string path, CK_FUNCTION_LIST* api) : path_(std::move(path)), api_(api) {}
	void finalise() noexcept;
	Status set_environment(const Environment& environment);

	std::string path_;
	CK_FUNCTION_LIST* api_;
	bool initialised_ = false;
	std::uint64_t epoch_ = 0;
	Environment environment_;
	std::map<std::string, std::optional<std::string>> shadowed_; // what our variables had before
	std::map<CK_SLOT_ID, PinDigest> logins_;
};

} // namespace seal::pkcs11
