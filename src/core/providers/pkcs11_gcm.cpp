// AES-GCM by C_Encrypt and C_Decrypt (SP 800-38D; PKCS#11 2.40 2.12.4).
//
// The IV is 12 random bytes in a buffer that the token may write to: some HSMs draw their own, so it is read back
// after the call. Random 96-bit IVs allow 2^32 wraps per KEK; a KEK wraps keyring keys (a handful) or DEKs of an
// 'hsm' keyring (millions).
#include "pkcs11_mechanism.hpp"

#include "seal/crypto.hpp"

#include <algorithm>

namespace seal::pkcs11 {

namespace {

constexpr std::size_t kIvSize = 12;
constexpr std::size_t kTagSize = 16;

class Gcm final : public Mechanism {
public:
	WrapMechanism id() const noexcept override { return WrapMechanism::pkcs11_aes_gcm; }
	bool by_wrapping() const noexcept override { return false; }
	bool accepts_size(std::size_t size) const noexcept override { return size >= 1 && size <= 64; }
	bool offered(CK_FUNCTION_LIST* api, CK_SLOT_ID slot) const override
	{
		return token_offers(api, slot, CKM_AES_GCM, CKF_ENCRYPT | CKF_DECRYPT);
	}

	CK_RV wrap(Call& call, const KekHandles& keys, const Secret& secret, ByteView aad, WrappedBlob& out) const override
	{
		std::uint8_t iv[16] = {}; // room beyond 12: a token that writes more must not write past it
		call.function = "drawing an IV";
		if (!random_bytes({iv, kIvSize}))
			return CKR_FUNCTION_FAILED;
		CK_GCM_PARAMS parameters = params(iv, kIvSize, aad);
		CK_MECHANISM mechanism = {CKM_AES_GCM, &parameters, sizeof parameters};
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
		if (size != plain.size() + kTagSize || parameters.ulIvLen != kIvSize)
			return CKR_GENERAL_ERROR; // a token that keeps the tag to itself, or an IV of a form we do not store
		out.data.resize(size);
		out.mechanism = id();
		out.iv.assign(iv, iv + kIvSize);
		return CKR_OK;
	}

	CK_RV unwrap(Call& call, const KekHandles& keys, const WrappedBlob& blob, ByteView aad, Secret& out) const override
	{
		call.function = "C_Decrypt";
		if (blob.iv.size() != kIvSize || blob.data.size() <= kTagSize || !accepts_size(blob.data.size() - kTagSize))
			return CKR_ENCRYPTED_DATA_LEN_RANGE;
		std::uint8_t iv[16] = {};
		std::copy(blob.iv.begin(), blob.iv.end(), iv);
		CK_GCM_PARAMS parameters = params(iv, kIvSize, aad);
		CK_MECHANISM mechanism = {CKM_AES_GCM, &parameters, sizeof parameters};
		call.function = "C_DecryptInit";
		CK_RV rv = call.api->C_DecryptInit(call.session, &mechanism, keys.kek);
		if (rv != CKR_OK)
			return rv;
		Secret buffer(blob.data.size() + 32);
		CK_ULONG size = static_cast<CK_ULONG>(buffer.size());
		call.function = "C_Decrypt";
		rv = call.api->C_Decrypt(call.session, const_cast<CK_BYTE_PTR>(blob.data.data()),
		                         static_cast<CK_ULONG>(blob.data.size()), buffer.reveal_mutable(RevealToken{}).data(),
		                         &size);
		if (rv != CKR_OK)
			return rv;
		if (size != blob.data.size() - kTagSize)
			return CKR_ENCRYPTED_DATA_LEN_RANGE;
		out = Secret::copy_of(buffer.reveal(RevealToken{}).subspan(0, size));
		return CKR_OK;
	}

private:
	static CK_GCM_PARAMS params(std::uint8_t* iv, std::size_t size, ByteView aad)
	{
		CK_GCM_PARAMS p{};
		p.pIv = iv;
		p.ulIvLen = static_cast<CK_ULONG>(size);
		p.ulIvBits = static_cast<CK_ULONG>(8 * size); // tokens differ in which of the two they read
		p.pAAD = const_cast<CK_BYTE_PTR>(aad.empty() ? nullptr : aad.data());
		p.ulAADLen = static_cast<CK_ULONG>(aad.size());
		p.ulTagBits = 8 * kTagSize;
		return p;
	}
};

const Gcm gcm;

} // namespace

const Mechanism& kGcmMechanism = gcm;

} // namespace seal::pkcs11
