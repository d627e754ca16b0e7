#include "agent_service.hpp"

#include "command.hpp"

#include <cerrno>
#include <cstdio>
#include <poll.h>
#include <sys/socket.h>

namespace seal::cli {

namespace {

constexpr std::chrono::seconds kFrameDeadline{60}; // for one frame whose first byte has come

// The session is in doubt: the next request connects anew. Errors about names and keys leave it alone.
bool in_doubt(ErrorCode code)
{
	switch (code) {
	case ErrorCode::crypto_failure:
	case ErrorCode::io_error:
	case ErrorCode::timeout:
	case ErrorCode::provider_unreachable:
	case ErrorCode::pin_incorrect: return true;
	default: return false;
	}
}

template <class T, class U> void put(AgentReply& reply, Result<T> result, U AgentReply::*member)
{
	if (result)
		reply.*member = std::move(*result);
	else
		reply.error = result.error();
}

// True when a byte is there to read; false at the end of the stream.
bool wait_for_frame(int fd)
{
	for (;;) {
		pollfd wait = {fd, POLLIN, 0};
		if (poll(&wait, 1, -1) < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		char byte = 0;
		const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		return n > 0;
	}
}

} // namespace

Result<Provider*> AgentService::provider(const std::string& kind, const std::string& config)
{
	const std::pair<std::string, std::string> key(kind, config);
	if (const auto open = providers_.find(key); open != providers_.end())
		return open->second.get();
	Result<std::unique_ptr<Provider>> opened = open_provider(kind, config);
	if (!opened)
		return opened.error();
	return providers_.emplace(key, std::move(*opened)).first->second.get();
}

AgentReply AgentService::answer(const AgentRequest& request)
{
	AgentReply reply;
	if (request.op == AgentOp::ping)
		return reply;
	Result<Provider*> found = provider(request.provider_kind, request.provider_config);
	if (!found) {
		reply.error = found.error();
		return reply;
	}
	Provider& device = **found;
	bool doubt = false;
	switch (request.op) {
	case AgentOp::check:
		reply.endpoints = device.check();
		for (const EndpointStatus& endpoint : reply.endpoints)
			doubt = doubt || !endpoint.ok;
		break;
	case AgentOp::create_kek:
		put(reply, device.create_kek(request.label, request.allow_same_label), &AgentReply::kek);
		break;
	case AgentOp::adopt_kek: put(reply, device.adopt_kek(request.label), &AgentReply::kek); break;
	case AgentOp::wrap: put(reply, device.wrap(request.kek, request.secrets, request.aad), &AgentReply::blobs); break;
	case AgentOp::unwrap:
		put(reply, device.unwrap(request.kek, request.blobs, request.aad), &AgentReply::secrets);
		break;
	default: reply.error = Error(ErrorCode::protocol, "unknown operation");
	}
	if (doubt || (reply.error && in_doubt(reply.error->code)))
		providers_.erase({request.provider_kind, request.provider_config});
	return reply;
}

int serve_agent(int fd)
{
	AgentService service;
	while (wait_for_frame(fd)) {
		const auto deadline = std::chrono::steady_clock::now() + kFrameDeadline;
		Result<std::pair<std::uint64_t, Bytes>> frame = read_frame(fd, deadline);
		if (!frame) {
			std::fprintf(stderr, "pgseal agent: %s\n", frame.error().message.c_str());
			return kExitProblem;
		}
		Result<AgentRequest> request = AgentRequest::decode(frame->second);
		wipe_message(frame->second);
		AgentReply reply;
		if (request)
			reply = service.answer(*request);
		else
			reply.error = request.error();
		Bytes message = reply.encode();
		const Status written =
			write_frame(fd, frame->first, message, std::chrono::steady_clock::now() + kFrameDeadline);
		wipe_message(message);
		if (!written)
			return kExitOk; // the server has gone, or gave up on us
	}
	return kExitOk;
}

} // namespace seal::cli
