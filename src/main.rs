//! The `cmk` program: reads the command line, sets up telemetry, calls [`cmk::app`] or [`cmk::dev`].

use clap::{Parser, Subcommand};
use cmk::config::{ApiArgs, AzureArgs, DatabaseArgs, WorkerArgs};
use cmk::dev::DevArgs;
use cmk::telemetry::{self, LogFormat};

/// Requests and turns are made of many small allocations that live as long as they do. Over the C library's allocator ten
/// thousand streams took a tenth more memory, and in the one run that compared them refusals were answered slower.
/// It does not ask for huge pages (feature `no_thp`): with them the memory of a process that does the same all the time grew in
/// steps of 2 MiB and more, for the kernel makes a range resident of which only some of it is used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Puts Azure services under customer-managed keys, and proves it.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// How logs look on standard error.
    #[arg(long, env = "CMK_LOG_FORMAT", value_enum, default_value_t, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything on this machine: a private PostgreSQL, the Azure simulator, the API, a worker and a first job.
    Dev(DevArgs),
    /// The API.
    Serve {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        api: ApiArgs,
        #[command(flatten)]
        azure: AzureArgs,
    },
    /// A worker.
    Work {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        worker: WorkerArgs,
        #[command(flatten)]
        azure: AzureArgs,
    },
    /// Brings the database's schema up to date.
    Migrate {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Prints the OpenAPI document.
    Openapi,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    // `cmk dev` talks to a person: its own output tells what happens, and logs are only for trouble.
    let filter = if matches!(cli.command, Command::Dev(_)) { "warn" } else { "info,sqlx=warn" };
    let telemetry = match telemetry::init(cli.log_format, filter) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(&error.into()),
    };
    let done = run(cli.command).await;
    telemetry.shutdown().await;
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(args) => cmk::dev::run(args).await,
        Command::Serve { database, api, azure } => cmk::app::serve(&database, &api, &azure).await,
        Command::Work { database, worker, azure } => cmk::app::work(&database, &worker, &azure).await,
        Command::Migrate { database } => cmk::app::migrate(&database).await,
        Command::Openapi => {
            println!("{}", cmk::api::openapi::document().to_pretty_json()?);
            Ok(())
        }
    }
}

fn fail(error: &anyhow::Error) -> std::process::ExitCode {
    eprintln!("cmk: {error:#}");
    std::process::ExitCode::FAILURE
}
