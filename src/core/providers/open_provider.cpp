// Provider kinds by name. A kind's configuration is read here once; nothing touches a device before the first
// operation.
#include "pkcs11_provider.hpp"

#include "seal/provider.hpp"

namespace seal {

namespace {

Error unknown_kind(const std::string& kind)
{
	return {ErrorCode::invalid_argument, "unknown provider kind '" + kind + "'", "The kind is 'pkcs11'."};
}

} // namespace

Status validate_provider_config(const std::string& kind, const std::string& config_json)
{
	if (kind != "pkcs11")
		return unknown_kind(kind);
	Result<pkcs11::Config> config = pkcs11::parse_config(config_json);
	if (!config)
		return config.error();
	return ok_status();
}

Result<std::unique_ptr<Provider>> open_provider(const std::string& kind, const std::string& config_json)
{
	if (kind != "pkcs11")
		return unknown_kind(kind);
	Result<pkcs11::Config> config = pkcs11::parse_config(config_json);
	if (!config)
		return config.error();
	return std::unique_ptr<Provider>(new pkcs11::TokenProvider(std::move(*config)));
}

} // namespace seal
