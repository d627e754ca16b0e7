// A SoftHSM token of a test's own, in a temporary directory that goes with it. The test fails, with the command that
// installs what is missing, when SoftHSM is not there.
#pragma once

#include <string>
#include <vector>

namespace seal::test {

inline constexpr char kSoftHsmModule[] = "/usr/lib/softhsm/libsofthsm2.so";

struct CommandResult {
	int exit_code = -1;
	std::string output, errors;
};
// Runs argv[0] by path or PATH; `environment` entries are NAME=value, added to the present environment.
CommandResult run(const std::vector<std::string>& argv, const std::vector<std::string>& environment = {});

class TemporaryDirectory {
public:
	TemporaryDirectory();
	TemporaryDirectory(const TemporaryDirectory&) = delete;
	TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
	~TemporaryDirectory();
	const std::string& path() const { return path_; }
	std::string file(const std::string& name) const { return path_ + "/" + name; }
	std::string write(const std::string& name, const std::string& text, unsigned mode = 0600) const; // its path

private:
	std::string path_;
};

class SoftHsm {
public:
	SoftHsm(); // configuration and an empty token directory
	void add_token(const std::string& label, const std::string& pin = "648219");
	std::string serial_of(const std::string& label) const;
	// {"module":..., "token":label, "pin_file":..., "environment":{"SOFTHSM2_CONF":...}} with `extra` members
	// ("\"a\":1") added.
	std::string config(const std::string& token, const std::string& extra = "") const;
	std::string config_text(const std::string& members) const; // the members as given, module and environment added
	CommandResult pkcs11_tool(const std::string& token, const std::vector<std::string>& arguments) const;
	std::string environment() const { return "SOFTHSM2_CONF=" + directory_.file("softhsm2.conf"); }
	const TemporaryDirectory& directory() const { return directory_; }
	std::string pin_file() const { return directory_.file("pin"); }

private:
	TemporaryDirectory directory_;
};

} // namespace seal::test
