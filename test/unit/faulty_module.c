/*
 * A PKCS#11 module that passes every call on to the one named by FAULTY_BEHIND, except for the fault named by FAULTY:
 *
 *   extractable    a new key says that it was extractable once
 *   other_usage    a new key says that it may wrap, whatever was asked for
 *   own_iv         AES-GCM writes an IV of its own into the caller's buffer
 *   no_gcm         AES-GCM is listed but refused when used
 *   final_try      the token says that one attempt at the PIN is left
 *   lose_session   the third use of C_Encrypt finds the session gone, once
 *   general_error  the third use of C_Encrypt fails without saying why, once
 *   accept_all     AES-GCM decrypts anything to zeros
 *
 * Built by pkcs11_faults_test.cpp while it runs.
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static CK_FUNCTION_LIST* behind;
static CK_FUNCTION_LIST list;
static int encryptions, gcm;

static int fault(const char* name)
{
	const char* chosen = getenv("FAULTY");
	return chosen && strcmp(chosen, name) == 0;
}

static CK_RV get_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes, CK_ULONG count)
{
	const CK_RV rv = behind->C_GetAttributeValue(session, object, attributes, count);
	for (CK_ULONG i = 0; rv == CKR_OK && i < count; ++i) {
		if (fault("extractable") && attributes[i].type == CKA_NEVER_EXTRACTABLE)
			*(CK_BBOOL*) attributes[i].pValue = CK_FALSE;
		if (fault("other_usage") && attributes[i].type == CKA_WRAP)
			*(CK_BBOOL*) attributes[i].pValue = CK_TRUE;
	}
	return rv;
}

static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO* info)
{
	const CK_RV rv = behind->C_GetTokenInfo(slot, info);
	if (rv == CKR_OK && fault("final_try"))
		info->flags |= CKF_USER_PIN_FINAL_TRY;
	return rv;
}

static CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key)
{
	if (mechanism->mechanism == CKM_AES_GCM && fault("no_gcm"))
		return CKR_MECHANISM_PARAM_INVALID;
	if (mechanism->mechanism == CKM_AES_GCM && fault("own_iv"))
		memcpy(((CK_GCM_PARAMS*) mechanism->pParameter)->pIv, "token's iv!!", 12);
	return behind->C_EncryptInit(session, mechanism, key);
}

static CK_RV encrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG in_size, CK_BYTE* out, CK_ULONG* out_size)
{
	++encryptions;
	if (encryptions == 3 && fault("lose_session"))
		return CKR_SESSION_HANDLE_INVALID;
	if (encryptions == 3 && fault("general_error"))
		return CKR_GENERAL_ERROR;
	return behind->C_Encrypt(session, in, in_size, out, out_size);
}

static CK_RV decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key)
{
	gcm = mechanism->mechanism == CKM_AES_GCM;
	return behind->C_DecryptInit(session, mechanism, key);
}

static CK_RV decrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG in_size, CK_BYTE* out, CK_ULONG* out_size)
{
	const CK_RV rv = behind->C_Decrypt(session, in, in_size, out, out_size);
	if (rv != CKR_OK && gcm && fault("accept_all")) {
		*out_size = in_size - 16;
		memset(out, 0, *out_size);
		return CKR_OK;
	}
	return rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST** out)
{
	void* library = dlopen(getenv("FAULTY_BEHIND"), RTLD_NOW | RTLD_LOCAL);
	CK_C_GetFunctionList get = library ? (CK_C_GetFunctionList) dlsym(library, "C_GetFunctionList") : NULL;
	if (!get || get(&behind) != CKR_OK)
		return CKR_GENERAL_ERROR;
	list = *behind;
	list.C_GetFunctionList = C_GetFunctionList;
	list.C_GetAttributeValue = get_attributes;
	list.C_GetTokenInfo = token_info;
	list.C_EncryptInit = encrypt_init;
	list.C_Encrypt = encrypt;
	list.C_DecryptInit = decrypt_init;
	list.C_Decrypt = decrypt;
	*out = &list;
	return CKR_OK;
}
