// AES-KEY-WRAP (RFC 3394) by C_WrapKey and C_UnwrapKey.
//
// These calls work on objects, so the secret becomes a session object for the length of one call: imported
// extractable to be wrapped, unwrapped into an extractable one to be read, and destroyed. It never becomes a token
// object. The secret is a key that lives in the server's memory anyway; the KEK stays non-extractable. RFC 3394
// carries no associated data: the caller binds the context by a MAC of its own.
#include "pkcs11_mechanism.hpp"

namespace seal::pkcs11 {

namespace {

constexpr std::size_t kOverhead = 8;

struct SessionObject {
	Call& call;
	CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
	~SessionObject()
	{
		if (handle != CK_INVALID_HANDLE)
			call.api->C_DestroyObject(call.session, handle);
	}
};

Template secret_object()
{
	Template t;
	t.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_GENERIC_SECRET).flag(CKA_TOKEN, false);
	t.flag(CKA_SENSITIVE, false).flag(CKA_EXTRACTABLE, true);
	return t;
}

class KeyWrap final : public Mechanism {
public:
	WrapMechanism id() const noexcept override { return WrapMechanism::pkcs11_aes_kw; }
	bool by_wrapping() const noexcept override { return true; }
	bool accepts_size(std::size_t size) const noexcept override { return size >= 16 && size <= 64 && size % 8 == 0; }
	bool offered(CK_FUNCTION_LIST* api, CK_SLOT_ID slot) const override
	{
		return token_offers(api, slot, CKM_AES_KEY_WRAP, CKF_WRAP | CKF_UNWRAP);
	}

	CK_RV wrap(Call& call, const KekHandles& keys, const Secret& secret, ByteView, WrappedBlob& out) const override
	{
		const ByteView plain = secret.reveal(RevealToken{});
		Template attributes = secret_object();
		attributes.bytes(CKA_VALUE, plain);
		SessionObject object{call};
		call.function = "C_CreateObject";
		CK_RV rv = call.api->C_CreateObject(call.session, attributes.data(), attributes.size(), &object.handle);
		if (rv != CKR_OK)
			return rv;
		CK_MECHANISM mechanism = {CKM_AES_KEY_WRAP, nullptr, 0};
		out.data.assign(plain.size() + 32, 0);
		CK_ULONG size = static_cast<CK_ULONG>(out.data.size());
		call.function = "C_WrapKey";
		rv = call.api->C_WrapKey(call.session, &mechanism, keys.kek, object.handle, out.data.data(), &size);
		if (rv != CKR_OK)
			return rv;
		if (size != plain.size() + kOverhead)
			return CKR_GENERAL_ERROR; // another wrapping format under the same name
		out.data.resize(size);
		out.mechanism = id();
		out.iv.clear();
		return CKR_OK;
	}

	CK_RV unwrap(Call& call, const KekHandles& keys, const WrappedBlob& blob, ByteView, Secret& out) const override
	{
		call.function = "C_UnwrapKey";
		if (!blob.iv.empty() || blob.data.size() <= kOverhead || !accepts_size(blob.data.size() - kOverhead))
			return CKR_WRAPPED_KEY_LEN_RANGE;
		CK_MECHANISM mechanism = {CKM_AES_KEY_WRAP, nullptr, 0};
		Template attributes = secret_object();
		SessionObject object{call};
		CK_RV rv = call.api->C_UnwrapKey(call.session, &mechanism, keys.kek, const_cast<CK_BYTE_PTR>(blob.data.data()),
		                                 static_cast<CK_ULONG>(blob.data.size()), attributes.data(), attributes.size(),
		                                 &object.handle);
		if (rv != CKR_OK)
			return rv;
		Secret value(blob.data.size() + 32);
		CK_ATTRIBUTE attribute = {CKA_VALUE, value.reveal_mutable(RevealToken{}).data(),
		                          static_cast<CK_ULONG>(value.size())};
		call.function = "C_GetAttributeValue";
		rv = call.api->C_GetAttributeValue(call.session, object.handle, &attribute, 1);
		if (rv != CKR_OK)
			return rv;
		if (attribute.ulValueLen != blob.data.size() - kOverhead)
			return CKR_WRAPPED_KEY_LEN_RANGE;
		out = Secret::copy_of(value.reveal(RevealToken{}).subspan(0, attribute.ulValueLen));
		return CKR_OK;
	}
};

const KeyWrap key_wrap;

} // namespace

const Mechanism& kKeyWrapMechanism = key_wrap;

} // namespace seal::pkcs11
