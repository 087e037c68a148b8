//! `simulate --seeds N --from F`: runs seeds, and shows which invariants they broke. `make simulate` calls it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use ecs_updater_simulation::counts::Counts;
use ecs_updater_simulation::plan::Plan;
use ecs_updater_simulation::report::report;
use ecs_updater_simulation::run::{Report, run};
use ecs_updater_simulation::shrink::shrink;
use ecs_updater_simulation::trace::Keep;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
simulate [--seeds N] [--from F] [--jobs J] [--twice] [--digests] [--no-shrink] [--keep-going]
simulate --show SEED | --plan FILE

  --seeds N      how many seeds (100)
  --from F       the first one (0)
  --jobs J       how many processes share them (1)
  --twice        each seed twice: both traces must be the same to the byte
  --digests      the hash of each seed's trace, to compare with another process or machine
  --no-shrink    show what was broken, and do not look for the smallest plan
  --keep-going   show the first seed of each broken invariant, and go on; else the first violation ends it
  --list         every violation of every seed, in a line each
  --show SEED    run a seed, and show its trace
  --plan FILE    run a plan, and show its trace";

/// Marks the line in which a process passes its counts to another one.
const COUNTS: &str = "COUNTS ";

#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // flags of a command line
struct Options {
    seeds: u64,
    from: u64,
    step: u64,
    jobs: u64,
    twice: bool,
    digests: bool,
    list: bool,
    no_shrink: bool,
    keep_going: bool,
    is_part: bool,
    show: Option<u64>,
    plan: Option<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seeds: 100, step: 1, jobs: 1, ..Options::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match argument.as_str() {
            "--seeds" => options.seeds = number(value()?)?,
            "--from" => options.from = number(value()?)?,
            "--step" => options.step = number(value()?)?,
            "--jobs" => options.jobs = number(value()?)?,
            "--show" => options.show = Some(number(value()?)?),
            "--plan" => options.plan = Some(value()?),
            "--twice" => options.twice = true,
            "--digests" => options.digests = true,
            "--list" => options.list = true,
            "--no-shrink" => options.no_shrink = true,
            "--keep-going" => options.keep_going = true,
            "--part" => options.is_part = true,
            _ => return Err(format!("{argument} is not known here\n\n{USAGE}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options().and_then(|options| go(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every invariant held.
fn go(options: &Options) -> Result<bool, String> {
    if let Some(file) = &options.plan {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let plan: Plan = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        return Ok(show(&plan));
    }
    if let Some(seed) = options.show {
        return Ok(show(&Plan::of_seed(seed)));
    }
    if options.jobs > 1 { together(options) } else { seeds(options) }
}

fn show(plan: &Plan) -> bool {
    let report = run(plan, Keep::Lines);
    println!("{}\n{}", report.text, written(&report.plan));
    println!("digest {}", report.digest);
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    report.violations.is_empty()
}

fn written(plan: &Plan) -> String {
    serde_json::to_string_pretty(plan).unwrap_or_default()
}

/// Several processes share the seeds: each has its own copy of what the SDK keeps per process.
fn together(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let flags = [
        ("--twice", options.twice),
        ("--digests", options.digests),
        ("--list", options.list),
        ("--no-shrink", options.no_shrink),
        ("--keep-going", options.keep_going),
    ];
    let mut parts = Vec::new();
    for job in 0..options.jobs {
        let seeds = (options.seeds + options.jobs - 1 - job) / options.jobs;
        let part = Command::new(&program)
            .args(["--part", "--seeds", &seeds.to_string(), "--from", &(options.from + job).to_string()])
            .args(["--step", &options.jobs.to_string()])
            .args(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag))
            .stdout(Stdio::piped())
            .spawn();
        parts.push(part.map_err(|error| error.to_string())?);
    }
    let (mut counts, mut is_good) = (Counts::default(), true);
    for mut part in parts {
        let lines = part.stdout.take().map(std::io::BufReader::new).into_iter().flat_map(BufRead::lines);
        for line in lines.map_while(Result::ok) {
            match line.strip_prefix(COUNTS) {
                Some(text) => counts.add(&serde_json::from_str(text).map_err(|error| error.to_string())?),
                None => println!("{line}"),
            }
        }
        is_good &= part.wait().map_err(|error| error.to_string())?.success();
    }
    println!("{}", report(&counts, began.elapsed().as_secs_f64()));
    Ok(is_good)
}

fn seeds(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let mut counts = Counts::default();
    let mut broken = BTreeMap::<String, (u64, u64, u64)>::new();
    let mut is_same = true;
    for n in 0..options.seeds {
        let seed = options.from + n * options.step;
        let plan = Plan::of_seed(seed);
        let is_hashed = options.twice || options.digests;
        let report = run(&plan, if is_hashed { Keep::Digest } else { Keep::Nothing });
        counts.add(&report.counts);
        if options.digests {
            println!("digest {seed} {}", report.digest);
        }
        if options.twice && run(&plan, Keep::Digest).digest != report.digest {
            println!("seed {seed}: two runs have different traces");
            is_same = false;
        }
        if options.list {
            report.violations.iter().for_each(|violation| println!("seed {seed}: {violation}"));
        }
        let mut is_new = false;
        for invariant in report.broken() {
            let entry = broken.entry(invariant.to_owned()).or_insert((seed, n + 1, 0));
            entry.2 += 1;
            if entry.2 == 1 {
                is_new = true;
                tell(&report, seed, n + 1, invariant, options);
            }
        }
        if is_new && !options.keep_going {
            break;
        }
    }
    for (invariant, (seed, after, times)) in &broken {
        println!("{invariant}: {times} runs, the first is seed {seed}, after {after} runs");
    }
    if options.is_part {
        println!("{COUNTS}{}", serde_json::to_string(&counts).map_err(|error| error.to_string())?);
    } else {
        println!("{}", crate::report(&counts, began.elapsed().as_secs_f64()));
    }
    Ok(broken.is_empty() && is_same)
}

/// Shows a broken invariant: what was broken, the smallest plan, and its trace.
fn tell(report: &Report, seed: u64, after: u64, invariant: &str, options: &Options) {
    let violation =
        report.violations.iter().find(|violation| violation.starts_with(invariant)).map_or("", String::as_str);
    println!("seed {seed}, after {after} runs: {violation}");
    if options.no_shrink {
        return;
    }
    let small = shrink(&report.plan, invariant);
    let shown = run(&small, Keep::Lines);
    println!(
        "{}\nthe smallest plan that was found ({} of {} parts):\n{}\n",
        shown.text,
        small.size(),
        report.plan.size(),
        written(&small)
    );
}
