// pgseal doctor: are this server binary, installation, machine, configuration and token fit? Each finding says what
// to do.
#include "command.hpp"
#include "doctor.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace seal::cli {

namespace {

const char* level_text(Level level)
{
	return level == Level::ok ? "ok" : level == Level::warning ? "warning" : "problem";
}

void print_text(const std::vector<DoctorFinding>& findings)
{
	for (const DoctorFinding& finding : findings) {
		std::printf("%-8s %-15s %s\n", level_text(finding.level), finding.area.c_str(), finding.text.c_str());
		if (!finding.remedy.empty())
			std::printf("%-8s %-15s -> %s\n", "", "", finding.remedy.c_str());
	}
}

void print_json(const std::vector<DoctorFinding>& findings, bool fit)
{
	nlohmann::json list = nlohmann::json::array();
	for (const DoctorFinding& finding : findings)
		list.push_back({{"area", finding.area},
		                {"level", level_text(finding.level)},
		                {"finding", finding.text},
		                {"remedy", finding.remedy}});
	const nlohmann::json document = {{"fit", fit}, {"findings", std::move(list)}};
	std::printf("%s\n", document.dump(1, '\t', false, nlohmann::json::error_handler_t::replace).c_str());
}

int run_doctor(const DoctorOptions& options)
{
	Doctor doctor(options);
	const std::vector<DoctorFinding>& findings = doctor.examine();
	const bool fit = std::none_of(findings.begin(), findings.end(),
	                              [](const DoctorFinding& f) { return f.level == Level::problem; });
	if (options.json)
		print_json(findings, fit);
	else
		print_text(findings);
	return fit ? kExitOk : kExitProblem;
}

} // namespace

void add_doctor_command(CLI::App& app, int& exit_code)
{
	auto options = std::make_shared<DoctorOptions>();
	CLI::App* command = app.add_subcommand("doctor", "is this server fit for pg_seal? each finding says what to do");
	command->add_option("--binary", options->binary, "the server's executable (also one about to be installed)");
	command->add_option("-D,--pgdata", options->data_directory, "the data directory, for settings and checksums")
		->check(CLI::ExistingDirectory);
	command->add_option("--provider-config", options->provider_config_file,
	                    "file with a PKCS#11 provider's configuration (JSON)");
	command->add_option("--archive", options->archives, "a directory with archived WAL (repeatable)")
		->check(CLI::ExistingDirectory);
	command->add_flag("--json", options->json, "the findings as JSON");
	command->callback([options, &exit_code] { exit_code = run_doctor(*options); });
}

} // namespace seal::cli
