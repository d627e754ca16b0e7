// AES-CBC-PAD, then HMAC-SHA-256 under a second key in the token (encrypt-then-MAC), for tokens without GCM and key
// wrap.
//
// The MAC covers IV || ciphertext || associated data || u32 LE ciphertext length and is cut to 16 bytes (SP 800-107:
// at least 64 bits). It is computed by the token and compared here in constant time before anything is decrypted: at
// least one token accepts an altered CBC block without complaint. A 32-byte secret takes 16 + 48 + 16 = 80 bytes,
// kWrappedSeedMax.
#include "pkcs11_mechanism.hpp"

#include "seal/crypto.hpp"

#include <algorithm>

namespace seal::pkcs11 {

namespace {

constexpr std::size_t kIvSize = 16;
constexpr std::size_t kMacSize = 16;
constexpr std::size_t kFullMacSize = 32;

class CbcHmac final : public Mechanism {
public:
	WrapMechanism id() const noexcept override { return WrapMechanism::pkcs11_cbc_hmac; }
	bool by_wrapping() const noexcept override { return false; }
	bool needs_mac_key() const noexcept override { return true; }
	bool accepts_size(std::size_t size) const noexcept override { return size >= 1 && size <= 64; }
	bool offered(CK_FUNCTION_LIST* api, CK_SLOT_ID slot) const override
	{
		return token_offers(api, slot, CKM_AES_CBC_PAD, CKF_ENCRYPT | CKF_DECRYPT) &&
		       token_offers(api, slot, CKM_SHA256_HMAC, CKF_SIGN) &&
		       token_offers(api, slot, CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE);
	}

	CK_RV wrap(Call& call, const KekHandles& keys, const Secret& secret, ByteView aad, WrappedBlob& out) const override
	{
		out.iv.assign(kIvSize, 0);
		call.function = "drawing an IV";
		if (!random_bytes(out.iv))
			return CKR_FUNCTION_FAILED;
		CK_MECHANISM mechanism = {CKM_AES_CBC_PAD, out.iv.data(), kIvSize};
		call.function = "C_EncryptInit";
		CK_RV rv = call.api->C_EncryptInit(call.session, &mechanism, keys.kek);
		if (rv != CKR_OK)
			return rv;
		const ByteView plain = secret.reveal(RevealToken{});
		out.data.assign(plain.size() + 32, 0);
		CK_ULONG size = static_cast<CK_ULONG>(out.data.size());
		call.function = "C_Encrypt";
		rv = call.api->C_Encrypt(call.session, const_cast<CK_BYTE_PTR>(plain.data()),
		                         static_cast<CK_ULONG>(plain.size()), out.data.data(), &size);
		if (rv != CKR_OK)
			return rv;
		if (size != plain.size() / 16 * 16 + 16)
			return CKR_GENERAL_ERROR;
		out.data.resize(size);
		std::uint8_t mac[kFullMacSize];
		rv = compute_mac(call, keys, out.iv, out.data, aad, mac);
		if (rv != CKR_OK)
			return rv;
		out.data.insert(out.data.end(), mac, mac + kMacSize);
		out.mechanism = id();
		return CKR_OK;
	}

	CK_RV unwrap(Call& call, const KekHandles& keys, const WrappedBlob& blob, ByteView aad, Secret& out) const override
	{
		call.function = "C_Decrypt";
		if (blob.iv.size() != kIvSize || blob.data.size() < 16 + kMacSize || blob.data.size() > 80 + kMacSize ||
		    blob.data.size() % 16 != 0)
			return CKR_ENCRYPTED_DATA_LEN_RANGE;
		const ByteView cipher = ByteView(blob.data).subspan(0, blob.data.size() - kMacSize);
		std::uint8_t mac[kFullMacSize];
		CK_RV rv = compute_mac(call, keys, blob.iv, cipher, aad, mac);
		if (rv != CKR_OK)
			return rv;
		if (!equal_constant_time({mac, kMacSize}, ByteView(blob.data).subspan(cipher.size())))
			return CKR_SIGNATURE_INVALID;
		std::uint8_t iv[kIvSize];
		std::copy(blob.iv.begin(), blob.iv.end(), iv);
		CK_MECHANISM mechanism = {CKM_AES_CBC_PAD, iv, kIvSize};
		call.function = "C_DecryptInit";
		rv = call.api->C_DecryptInit(call.session, &mechanism, keys.kek);
		if (rv != CKR_OK)
			return rv;
		Secret buffer(cipher.size() + 32);
		CK_ULONG size = static_cast<CK_ULONG>(buffer.size());
		call.function = "C_Decrypt";
		rv = call.api->C_Decrypt(call.session, const_cast<CK_BYTE_PTR>(cipher.data()),
		                         static_cast<CK_ULONG>(cipher.size()), buffer.reveal_mutable(RevealToken{}).data(),
		                         &size);
		if (rv != CKR_OK)
			return rv;
		if (size >= cipher.size() || !accepts_size(size))
			return CKR_ENCRYPTED_DATA_LEN_RANGE;
		out = Secret::copy_of(buffer.reveal(RevealToken{}).subspan(0, size));
		return CKR_OK;
	}

private:
	static CK_RV compute_mac(Call& call, const KekHandles& keys, ByteView iv, ByteView cipher, ByteView aad,
	                         std::uint8_t (&mac)[kFullMacSize])
	{
		Bytes message(iv.begin(), iv.end());
		message.insert(message.end(), cipher.begin(), cipher.end());
		message.insert(message.end(), aad.begin(), aad.end());
		for (unsigned shift = 0; shift < 32; shift += 8)
			message.push_back(static_cast<std::uint8_t>(cipher.size() >> shift));
		CK_MECHANISM mechanism = {CKM_SHA256_HMAC, nullptr, 0};
		call.function = "C_SignInit";
		CK_RV rv = call.api->C_SignInit(call.session, &mechanism, keys.mac);
		if (rv != CKR_OK)
			return rv;
		std::uint8_t full[64];
		CK_ULONG size = sizeof full;
		call.function = "C_Sign";
		rv = call.api->C_Sign(call.session, message.data(), static_cast<CK_ULONG>(message.size()), full, &size);
		if (rv != CKR_OK)
			return rv;
		if (size != kFullMacSize)
			return CKR_GENERAL_ERROR;
		std::copy(full, full + kFullMacSize, mac);
		return CKR_OK;
	}
};

const CbcHmac cbc_hmac;

} // namespace

const Mechanism& kCbcHmacMechanism = cbc_hmac;

} // namespace seal::pkcs11
