#include "seal/provider.hpp"

namespace seal {

// Bytes of IV that a mechanism's blob starts with in compact form; nothing: not a provider's mechanism.
static std::optional<std::size_t> iv_size(WrapMechanism mechanism) noexcept
{
	switch (mechanism) {
	case WrapMechanism::pkcs11_aes_gcm:
	case WrapMechanism::kmip_aes_gcm: return 12;
	case WrapMechanism::pkcs11_aes_kw: return 0; // RFC 3394's fixed initial value
	case WrapMechanism::pkcs11_cbc_hmac: return 16;
	case WrapMechanism::none:
	case WrapMechanism::local_aes_gcm: break;
	}
	return std::nullopt;
}

Bytes WrappedBlob::compact() const
{
	const std::optional<std::size_t> expected = iv_size(mechanism);
	if (!expected || iv.size() != *expected)
		return {};
	Bytes out(iv);
	out.insert(out.end(), data.begin(), data.end());
	return out;
}

std::optional<WrappedBlob> WrappedBlob::from_compact(WrapMechanism mechanism, ByteView bytes)
{
	const std::optional<std::size_t> split = iv_size(mechanism);
	if (!split || bytes.size() <= *split || bytes.size() > kWrappedSeedMax)
		return std::nullopt;
	WrappedBlob blob;
	blob.mechanism = mechanism;
	blob.iv.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(*split));
	blob.data.assign(bytes.begin() + static_cast<std::ptrdiff_t>(*split), bytes.end());
	return blob;
}

} // namespace seal
