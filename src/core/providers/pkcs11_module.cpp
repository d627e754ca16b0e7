#include "pkcs11_module.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>

namespace seal::pkcs11 {

namespace {

Error unusable(const std::string& path, const std::string& what, std::string hint)
{
	return {ErrorCode::provider_unreachable, "PKCS#11 module \"" + path + "\" " + what, std::move(hint)};
}

Status set_variable(const std::string& name, const std::optional<std::string>& value)
{
	const int rc = value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
	if (rc != 0)
		return Error(ErrorCode::io_error,
		             "could not set the environment variable " + name + ": " + std::strerror(errno));
	return ok_status();
}

} // namespace

Result<Module*> Module::load(const std::string& path, const Environment& environment)
{
	static auto* loaded = new std::map<std::string, Module*>; // never destroyed, like the libraries
	if (const auto known = loaded->find(path); known != loaded->end())
		return known->second;

	if (access(path.c_str(), R_OK) != 0)
		return unusable(
			path, std::string("cannot be read: ") + std::strerror(errno),
			"Check the path in the provider's \"module\", and that the token's software is installed on this machine.");
	Module* module = new Module(path, nullptr);
	if (Status set = module->set_environment(environment); !set) {
		delete module;
		return set.error();
	}
	void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
	const char* why = library ? nullptr : dlerror();
	auto get_list = library ? reinterpret_cast<CK_C_GetFunctionList>(dlsym(library, "C_GetFunctionList")) : nullptr;
	CK_RV rv = CKR_GENERAL_ERROR;
	if (get_list)
		rv = get_list(&module->api_);
	if (!get_list || rv != CKR_OK || !module->api_) {
		delete module;
		if (!library)
			return unusable(path, std::string("cannot be loaded: ") + (why ? why : "unknown reason"),
			                "Check that the token's software is complete and made for this processor.");
		return unusable(
			path, "is no PKCS#11 library" + (get_list ? ": C_GetFunctionList gives " + rv_text(rv) : std::string()),
			"Check the path in the provider's \"module\".");
	}
	loaded->emplace(path, module);
	return module;
}

Status Module::set_environment(const Environment& environment)
{
	for (const auto& [name, before] : shadowed_)
		if (!environment.count(name))
			if (Status status = set_variable(name, before); !status)
				return status;
	for (const auto& [name, value] : environment) {
		if (!shadowed_.count(name)) {
			const char* before = std::getenv(name.c_str());
			shadowed_[name] = before ? std::optional<std::string>(before) : std::nullopt;
		}
		if (Status status = set_variable(name, value); !status)
			return status;
	}
	environment_ = environment;
	return ok_status();
}

Status Module::activate(const Environment& environment)
{
	if (initialised_ && environment == environment_)
		return ok_status();
	if (environment != environment_) {
		finalise();
		if (Status status = set_environment(environment); !status)
			return status;
	}
	return reinitialise();
}

void Module::finalise() noexcept
{
	if (initialised_)
		api_->C_Finalize(nullptr);
	initialised_ = false;
	logins_.clear();
	++epoch_;
}

Status Module::reinitialise()
{
	finalise();
	CK_C_INITIALIZE_ARGS arguments{};
	arguments.flags = CKF_OS_LOCKING_OK; // some libraries start threads of their own
	CK_RV rv = api_->C_Initialize(&arguments);
	if (rv == CKR_CANT_LOCK || rv == CKR_ARGUMENTS_BAD)
		rv = api_->C_Initialize(nullptr);
	if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
		return unusable(
			path_, "cannot be initialised: " + rv_text(rv),
			"Check the module's own configuration (its files, and \"environment\" in the provider) and that the "
			"server's operating system user may read it.");
	initialised_ = true;
	return ok_status();
}

} // namespace seal::pkcs11
