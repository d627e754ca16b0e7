#include "pkcs11_objects.hpp"

namespace seal::pkcs11 {

Template& Template::flag(CK_ATTRIBUTE_TYPE type, bool value)
{
	flags_.push_back(value ? CK_TRUE : CK_FALSE);
	list_.push_back({type, &flags_.back(), sizeof(CK_BBOOL)});
	return *this;
}

Template& Template::number(CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
	numbers_.push_back(value);
	list_.push_back({type, &numbers_.back(), sizeof(CK_ULONG)});
	return *this;
}

Template& Template::text(CK_ATTRIBUTE_TYPE type, const std::string& value)
{
	texts_.push_back(value);
	list_.push_back({type, texts_.back().data(), static_cast<CK_ULONG>(value.size())});
	return *this;
}

Template& Template::bytes(CK_ATTRIBUTE_TYPE type, ByteView value)
{
	list_.push_back({type, const_cast<std::uint8_t*>(value.data()), static_cast<CK_ULONG>(value.size())});
	return *this;
}

CK_RV find_objects(Call& call, Template& search, std::vector<CK_OBJECT_HANDLE>& out)
{
	out.clear();
	call.function = "C_FindObjectsInit";
	CK_RV rv = call.api->C_FindObjectsInit(call.session, search.data(), search.size());
	if (rv != CKR_OK)
		return rv;
	CK_OBJECT_HANDLE handles[64];
	CK_ULONG count = 0;
	do {
		call.function = "C_FindObjects";
		rv = call.api->C_FindObjects(call.session, handles, 64, &count);
		if (rv == CKR_OK)
			out.insert(out.end(), handles, handles + count);
	} while (rv == CKR_OK && count > 0);
	const CK_RV end = call.api->C_FindObjectsFinal(call.session);
	if (rv == CKR_OK && end != CKR_OK) {
		call.function = "C_FindObjectsFinal";
		rv = end;
	}
	return rv;
}

namespace {

// One attribute at a time: a list that holds one attribute unknown to the token fails as a whole on some tokens.
CK_RV get(Call& call, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type, void* buffer, CK_ULONG size,
          std::optional<CK_ULONG>& got)
{
	CK_ATTRIBUTE attribute = {type, buffer, size};
	call.function = "C_GetAttributeValue";
	const CK_RV rv = call.api->C_GetAttributeValue(call.session, key, &attribute, 1);
	got.reset();
	if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_BUFFER_TOO_SMALL)
		return CKR_OK; // absent as far as we are concerned
	if (rv == CKR_OK && attribute.ulValueLen != CK_UNAVAILABLE_INFORMATION && attribute.ulValueLen <= size)
		got = attribute.ulValueLen;
	return rv;
}

} // namespace

CK_RV read_facts(Call& call, CK_OBJECT_HANDLE key, KeyFacts& out)
{
	std::optional<CK_ULONG> size;
	const std::pair<CK_ATTRIBUTE_TYPE, std::optional<CK_ULONG>*> numbers[] = {{CKA_KEY_TYPE, &out.key_type},
	                                                                          {CKA_VALUE_LEN, &out.value_len}};
	for (const auto& [type, target] : numbers) {
		CK_ULONG value = 0;
		if (const CK_RV rv = get(call, key, type, &value, sizeof value, size); rv != CKR_OK)
			return rv;
		if (size == sizeof value)
			*target = value;
	}
	const std::pair<CK_ATTRIBUTE_TYPE, std::optional<bool>*> flags[] = {
		{CKA_TOKEN, &out.on_token},
		{CKA_SENSITIVE, &out.sensitive},
		{CKA_EXTRACTABLE, &out.extractable},
		{CKA_ALWAYS_SENSITIVE, &out.always_sensitive},
		{CKA_LOCAL, &out.local},
		{CKA_NEVER_EXTRACTABLE, &out.never_extractable},
		{CKA_ENCRYPT, &out.encrypt},
		{CKA_DECRYPT, &out.decrypt},
		{CKA_WRAP, &out.wrap},
		{CKA_UNWRAP, &out.unwrap},
	};
	for (const auto& [type, target] : flags) {
		CK_BBOOL value = CK_FALSE;
		if (const CK_RV rv = get(call, key, type, &value, sizeof value, size); rv != CKR_OK)
			return rv;
		if (size == sizeof value)
			*target = value != CK_FALSE;
	}
	std::uint8_t buffer[256];
	if (const CK_RV rv = get(call, key, CKA_LABEL, buffer, sizeof buffer, size); rv != CKR_OK)
		return rv;
	out.label.assign(reinterpret_cast<const char*>(buffer), size.value_or(0));
	if (const CK_RV rv = get(call, key, CKA_ID, buffer, sizeof buffer, size); rv != CKR_OK)
		return rv;
	out.id.assign(buffer, buffer + size.value_or(0));
	return CKR_OK;
}

} // namespace seal::pkcs11
