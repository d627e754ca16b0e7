// The key agent's answering side: requests in, replies out, providers kept open between them.
//
// One request at a time. A vendor library that hangs hangs the agent; the server has deadlines of its own and then
// ends the agent and starts another. No state survives the process, and none is on disk.
#pragma once

#include "seal/agent_protocol.hpp"

#include <map>

namespace seal::cli {

class AgentService {
public:
	AgentReply answer(const AgentRequest& request);

private:
	Result<Provider*> provider(const std::string& kind, const std::string& config);

	std::map<std::pair<std::string, std::string>, std::unique_ptr<Provider>>
		providers_; // by kind and configuration text
};

// Serves `fd` until its other end is closed (kExitOk) or a frame is malformed (kExitProblem).
int serve_agent(int fd);

} // namespace seal::cli
