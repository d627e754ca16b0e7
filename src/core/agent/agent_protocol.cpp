// Encoding of the agent's messages, on codec.hpp. Counts are never trusted: a list ends where the message ends.
#include "seal/agent_protocol.hpp"

namespace seal {

namespace {

Error malformed(const char* what) { return {ErrorCode::protocol, std::string("malformed ") + what}; }

void put(Writer& w, const KekRef& kek)
{
	w.text(kek.label);
	w.text(kek.id_hex);
	w.u8(static_cast<std::uint8_t>(kek.mechanism));
}
KekRef get_kek(Reader& r, bool& valid)
{
	KekRef kek;
	kek.label = r.text();
	kek.id_hex = r.text();
	const std::uint8_t mechanism = r.u8();
	valid = valid && mechanism <= static_cast<std::uint8_t>(WrapMechanism::kmip_aes_gcm);
	kek.mechanism = static_cast<WrapMechanism>(mechanism);
	return kek;
}

void put(Writer& w, const WrappedBlob& blob)
{
	w.u8(static_cast<std::uint8_t>(blob.mechanism));
	w.bytes(blob.iv);
	w.bytes(blob.data);
}
WrappedBlob get_blob(Reader& r, bool& valid)
{
	WrappedBlob blob;
	const std::uint8_t mechanism = r.u8();
	valid = valid && mechanism <= static_cast<std::uint8_t>(WrapMechanism::kmip_aes_gcm);
	blob.mechanism = static_cast<WrapMechanism>(mechanism);
	const ByteView iv = r.bytes();
	const ByteView data = r.bytes();
	blob.iv.assign(iv.begin(), iv.end());
	blob.data.assign(data.begin(), data.end());
	return blob;
}

template <class T, class PutOne> void put_list(Writer& w, const std::vector<T>& list, PutOne put_one)
{
	w.u32(static_cast<std::uint32_t>(list.size()));
	for (const T& element : list)
		put_one(element);
}
template <class T, class GetOne> void get_list(Reader& r, std::vector<T>& list, GetOne get_one)
{
	const std::uint32_t count = r.u32();
	for (std::uint32_t i = 0; i < count && r.ok(); i++)
		list.push_back(get_one());
}

void put_blobs(Writer& w, const std::vector<WrappedBlob>& blobs)
{
	put_list(w, blobs, [&](const WrappedBlob& b) { put(w, b); });
}
void put_secrets(Writer& w, const std::vector<Secret>& secrets)
{
	put_list(w, secrets, [&](const Secret& s) { w.secret(s); });
}

void put(Writer& w, const std::optional<Error>& error)
{
	w.u8(error.has_value());
	if (error) {
		w.u8(static_cast<std::uint8_t>(error->code));
		w.text(error->message);
		w.text(error->hint);
	}
}
std::optional<Error> get_error(Reader& r, bool& valid)
{
	const std::uint8_t present = r.u8();
	valid = valid && present <= 1;
	if (present != 1)
		return std::nullopt;
	const std::uint8_t code = r.u8();
	valid = valid && code >= static_cast<std::uint8_t>(ErrorCode::invalid_argument) &&
	        code <= static_cast<std::uint8_t>(ErrorCode::already_exists);
	std::string message = r.text();
	std::string hint = r.text();
	return Error{static_cast<ErrorCode>(code), std::move(message), std::move(hint)};
}

void put(Writer& w, const EndpointStatus& endpoint)
{
	w.text(endpoint.endpoint);
	w.u8(endpoint.ok);
	w.f64(endpoint.latency_ms);
	w.u8(endpoint.certificate_expires.has_value());
	if (endpoint.certificate_expires)
		w.u64(static_cast<std::uint64_t>(*endpoint.certificate_expires));
	w.text(endpoint.detail);
}
EndpointStatus get_endpoint(Reader& r)
{
	EndpointStatus endpoint;
	endpoint.endpoint = r.text();
	endpoint.ok = r.u8() != 0;
	endpoint.latency_ms = r.f64();
	if (r.u8() != 0)
		endpoint.certificate_expires = static_cast<std::int64_t>(r.u64());
	endpoint.detail = r.text();
	return endpoint;
}

} // namespace

Bytes AgentRequest::encode() const
{
	Writer w;
	w.u8(static_cast<std::uint8_t>(op));
	w.text(provider_name);
	w.text(provider_kind);
	w.text(provider_config);
	w.u32(timeout_ms);
	w.text(label);
	w.u8(allow_same_label ? 1 : 0);
	put(w, kek);
	w.bytes(aad);
	put_secrets(w, secrets);
	put_blobs(w, blobs);
	return w.take();
}

Result<AgentRequest> AgentRequest::decode(ByteView payload)
{
	Reader r(payload);
	bool valid = true;
	AgentRequest request;
	const std::uint8_t op = r.u8();
	valid = op >= static_cast<std::uint8_t>(AgentOp::ping) && op <= static_cast<std::uint8_t>(AgentOp::unwrap);
	request.op = static_cast<AgentOp>(op);
	request.provider_name = r.text();
	request.provider_kind = r.text();
	request.provider_config = r.text();
	request.timeout_ms = r.u32();
	request.label = r.text();
	const std::uint8_t allow_same_label = r.u8();
	valid = valid && allow_same_label <= 1;
	request.allow_same_label = allow_same_label == 1;
	request.kek = get_kek(r, valid);
	const ByteView aad = r.bytes();
	request.aad.assign(aad.begin(), aad.end());
	get_list(r, request.secrets, [&] { return r.secret(); });
	get_list(r, request.blobs, [&] { return get_blob(r, valid); });
	if (!valid || !r.at_end())
		return malformed("request to the key agent");
	return request;
}

Bytes AgentReply::encode() const
{
	Writer w;
	put(w, error);
	put_list(w, endpoints, [&](const EndpointStatus& e) { put(w, e); });
	put(w, kek);
	put_blobs(w, blobs);
	put_secrets(w, secrets);
	return w.take();
}

Result<AgentReply> AgentReply::decode(ByteView payload)
{
	Reader r(payload);
	bool valid = true;
	AgentReply reply;
	reply.error = get_error(r, valid);
	get_list(r, reply.endpoints, [&] { return get_endpoint(r); });
	reply.kek = get_kek(r, valid);
	get_list(r, reply.blobs, [&] { return get_blob(r, valid); });
	get_list(r, reply.secrets, [&] { return r.secret(); });
	if (!valid || !r.at_end())
		return malformed("reply of the key agent");
	return reply;
}

Bytes UnlockReply::encode() const
{
	Writer w;
	put(w, error);
	put_list(w, keys, [&](const UnlockedKey& k) {
		w.u32(k.keyring_id);
		w.u32(k.version);
		w.secret(k.key);
	});
	return w.take();
}

Result<UnlockReply> UnlockReply::decode(ByteView payload)
{
	Reader r(payload);
	bool valid = true;
	UnlockReply reply;
	reply.error = get_error(r, valid);
	get_list(r, reply.keys, [&] {
		UnlockedKey key;
		key.keyring_id = r.u32();
		key.version = r.u32();
		key.key = r.secret();
		valid = valid && key.key.size() == kKeyringKeySize;
		return key;
	});
	if (!valid || !r.at_end())
		return malformed("reply of pgseal unlock");
	return reply;
}

} // namespace seal
