#include "softhsm_token.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace seal::test {

namespace {

constexpr char kPin[] = "648219";

void fail(const std::string& what)
{
	ADD_FAILURE() << what << " (apt-get install softhsm2 opensc)";
	throw std::runtime_error(what);
}

} // namespace

CommandResult run(const std::vector<std::string>& argv, const std::vector<std::string>& environment)
{
	int out[2], err[2];
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		fail("pipe");
	const pid_t pid = fork();
	if (pid == 0) {
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		for (const std::string& entry : environment)
			putenv(const_cast<char*>(entry.c_str()));
		std::vector<char*> raw;
		for (const std::string& argument : argv)
			raw.push_back(const_cast<char*>(argument.c_str()));
		raw.push_back(nullptr);
		execvp(raw[0], raw.data());
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	CommandResult result;
	pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
	std::string* texts[2] = {&result.output, &result.errors};
	while (ends[0].fd >= 0 || ends[1].fd >= 0) {
		if (poll(ends, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; ++i) {
			if (ends[i].fd < 0 || !ends[i].revents)
				continue;
			char buffer[4096];
			const ssize_t n = read(ends[i].fd, buffer, sizeof buffer);
			if (n > 0)
				texts[i]->append(buffer, static_cast<std::size_t>(n));
			else if (n == 0 || errno != EINTR)
				ends[i].fd = -1;
		}
	}
	close(out[0]);
	close(err[0]);
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
	result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return result;
}

TemporaryDirectory::TemporaryDirectory()
{
	char name[] = "/tmp/pg_seal_test_XXXXXX";
	if (!mkdtemp(name))
		fail("mkdtemp");
	path_ = name;
}

TemporaryDirectory::~TemporaryDirectory()
{
	std::error_code ignored;
	std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, const std::string& text, unsigned mode) const
{
	std::ofstream(file(name), std::ios::binary) << text;
	chmod(file(name).c_str(), mode);
	return file(name);
}

SoftHsm::SoftHsm()
{
	if (access(kSoftHsmModule, R_OK) != 0)
		fail("SoftHSM's module is missing");
	std::filesystem::create_directory(directory_.file("tokens"));
	directory_.write("softhsm2.conf", "directories.tokendir = " + directory_.file("tokens") +
	                                      "\nobjectstore.backend = file\nlog.level = ERROR\n");
	directory_.write("pin", std::string(kPin) + "\n");
}

void SoftHsm::add_token(const std::string& label, const std::string& pin)
{
	const CommandResult made =
		run({"softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", pin},
	        {environment()});
	if (made.exit_code != 0)
		fail("softhsm2-util could not make a token: " + made.output + made.errors);
}

std::string SoftHsm::serial_of(const std::string& label) const
{
	const CommandResult shown = run({"softhsm2-util", "--show-slots"}, {environment()});
	std::string serial;
	std::size_t at = 0;
	while (at < shown.output.size()) { // "Serial number:" comes before "Label:" of the same slot
		const std::size_t end = shown.output.find('\n', at);
		const std::string line = shown.output.substr(at, end - at);
		at = end == std::string::npos ? shown.output.size() : end + 1;
		const std::size_t colon = line.find(':');
		if (colon == std::string::npos)
			continue;
		const std::size_t first = line.find_first_not_of(' ', colon + 1);
		std::string value = first == std::string::npos ? "" : line.substr(first);
		value.resize(value.find_last_not_of(' ') + 1);
		if (line.find("Serial number:") != std::string::npos)
			serial = value;
		else if (line.find("Label:") != std::string::npos && value == label)
			return serial;
	}
	return {};
}

std::string SoftHsm::config(const std::string& token, const std::string& extra) const
{
	return config_text("\"token\":\"" + token + "\",\"pin_file\":\"" + pin_file() + "\"" + (extra.empty() ? "" : ",") +
	                   extra);
}

std::string SoftHsm::config_text(const std::string& members) const
{
	return std::string("{\"module\":\"") + kSoftHsmModule + "\",\"environment\":{\"SOFTHSM2_CONF\":\"" +
	       directory_.file("softhsm2.conf") + "\"}," + members + "}";
}

CommandResult SoftHsm::pkcs11_tool(const std::string& token, const std::vector<std::string>& arguments) const
{
	std::vector<std::string> argv = {"pkcs11-tool", "--module", kSoftHsmModule, "--token-label",
	                                 token,         "--login",  "--pin",        kPin};
	argv.insert(argv.end(), arguments.begin(), arguments.end());
	CommandResult result = run(argv, {environment()});
	if (result.exit_code != 0)
		fail("pkcs11-tool: " + result.output + result.errors);
	return result;
}

} // namespace seal::test
