//! What a document shows is what the programs do: commands run, queries answer, examples parse, and tables say what the
//! code says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use vpn_agent::{config as agent, state::State};
use vpn_collector::config as collector;
use vpn_ebpf_common::{LAYOUT, Verdict};
use vpn_tests::{
    audit::Audit,
    demo,
    first_plant::{self, Block, CARGO, DOCUMENTS, EXAMPLES},
    store::Store,
};

#[test]
fn every_block_of_commands_is_run_by_someone() {
    for block in all_blocks().iter().filter(|block| block.language() == "sh") {
        let by_ci = CARGO.contains(&&*block.text);
        let host = block.info.get(1).copied();
        assert!(
            by_ci && host.is_none() || matches!(host, Some("gateway" | "site" | "user")),
            "{}: say which host these commands are for",
            block.place()
        );
    }
    for command in CARGO {
        assert!(all_blocks().iter().any(|block| block.text == command), "the README shows {command}");
    }
    let known = ["sh", "text", "toml", "json", "sql"];
    for block in all_blocks() {
        assert!(known.contains(&block.language()), "{}: {:?} is looked at by no test", block.place(), block.info);
    }
}

#[test]
fn the_demo_in_the_readme_is_the_demo() {
    let source = read("tests/src/main_job.rs");
    let blocks = all_blocks();
    let demo = blocks.iter().find(|block| block.info == ["text", "demo"]).expect("the README shows the demo");
    let mut titles = 0;
    for line in demo.text.lines().filter(|line| line.starts_with('[')) {
        let (_, title) = line.split_once(". ").unwrap_or_else(|| panic!("{line}: no title"));
        let (_, title) = title.split_at(title.find(|c: char| c.is_alphabetic()).unwrap());
        let title = title.rsplit_once(" ... ok (").unwrap_or_else(|| panic!("{line}: not ok")).0;
        let title = title.trim_start_matches(|c: char| c.is_ascii_digit() || ". ".contains(c));
        assert!(source.contains(title), "the demo has no step {title:?}");
        titles += 1;
    }
    assert!(titles > 5);
}

#[test]
fn examples_in_documents_are_the_example_files() {
    let mut shown = BTreeSet::new();
    for block in all_blocks() {
        if let ("toml" | "json", Some(file)) = (block.language(), block.info.get(1)) {
            let (_, text) = EXAMPLES.iter().find(|(name, _)| name == file).unwrap_or_else(|| panic!("no {file}"));
            assert_eq!(block.text, *text, "{} is {file}", block.place());
            shown.insert(*file);
        }
    }
    assert_eq!(shown, BTreeSet::from(["examples/agent.toml", "examples/state.json"]));
}

#[test]
fn examples_are_valid() {
    for (name, text) in EXAMPLES {
        match name {
            "examples/agent.toml" => drop(agent::Config::parse(text).unwrap()),
            "examples/collector.toml" => drop(collector::Config::read(&root().join(name)).unwrap()),
            "examples/state.json" => drop(state(name, text)),
            other => panic!("{other} is not checked"),
        }
    }
}

/// A fragment stands for the example file with these lists in place of its own.
#[test]
fn fragments_of_a_desired_state_are_valid() {
    let (_, whole) = EXAMPLES[2];
    let mut fragments = 0;
    for block in all_blocks().iter().filter(|block| block.language() == "json") {
        let mut document: BTreeMap<String, Value> = serde_json::from_str(whole).unwrap();
        let lists: BTreeMap<String, Value> =
            serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place()));
        document.extend(lists);
        state(&block.place(), &serde_json::to_string(&document).unwrap());
        fragments += 1;
    }
    assert!(fragments > 3);
}

#[test]
fn pin_folders_carry_the_present_layout() {
    for name in ["ARCHITECTURE.md", "docs/operators.md"] {
        let text = read(name);
        let layouts: Vec<u32> = text
            .split("/sys/fs/bpf/vpn/v")
            .skip(1)
            .chain(text.split("pin folder (`v").skip(1))
            .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .collect();
        assert!(!layouts.is_empty() && layouts.iter().all(|layout| *layout == LAYOUT), "{name}: {layouts:?}");
    }
}

#[test]
fn every_verdict_is_explained() {
    let rows = table("docs/verdicts.md", "verdict");
    let shown: Vec<_> = rows.iter().map(|row| (&*row[0], &*row[1])).collect();
    let real: Vec<_> =
        Verdict::ALL.iter().map(|verdict| (format!("`{}`", verdict.label()), verdict.description().trim())).collect();
    assert_eq!(shown, real.iter().map(|(label, description)| (&**label, *description)).collect::<Vec<_>>());
}

#[test]
fn settings_of_the_agent_have_the_defaults_and_limits_in_the_table() {
    let least = "gateway = 'g'\nregion = 'r'\nstate = '/s'\nstate_dir = '/d'\nusers.private_key_file = '/k'\n";
    // No `..`: a new setting does not compile until it is here, and then fails until it is in the table.
    let agent::Config {
        gateway: _,
        region: _,
        state: _,
        allocations,
        state_dir: _,
        reconcile_seconds,
        users,
        plants,
        pools,
        policy,
        health,
        datapath,
        services,
        api,
        pull,
    } = agent::Config::parse(least).unwrap();
    // They have no default as a whole, but their fields do.
    assert!(api.is_none() && pull.is_none());
    let both = least.replace("state = '/s'\n", "api.socket = '/s'\npull.url = 'https://p'\n");
    let agent::Config { api, pull, .. } = agent::Config::parse(&both).unwrap();
    let agent::Api { socket: _, tls, connections_max, body_max_bytes } = api.unwrap();
    let agent::Pull { url: _, interval_seconds, ca_file, certificate_file: _, private_key_file: _ } = pull.unwrap();
    assert!(tls.is_none());
    let agent::Users { interface, listen_port, private_key_file: _, mtu, endpoint, real_ranges } = users;
    let agent::Plants { listen_port_base, mtu: plants_mtu, endpoint: plants_endpoint } = plants;
    assert!(endpoint.is_none() && real_ranges.is_empty() && plants_endpoint.is_none());
    let agent::Pools { tunnel, source, virtual_, tunnel6, source6, virtual6 } = pools;
    let agent::HealthConfig { place, probes } = health;
    assert!(place.is_none() && probes.is_empty());
    let agent::PolicyConfig { route_roles } = policy;
    let agent::DatapathConfig {
        pin_dir,
        peers_max,
        routes_max,
        plants_max,
        flows_max,
        closed_max,
        denials_max,
        fragments_max,
        events_bytes,
        idle_seconds: agent::IdleSeconds { tcp, udp, icmp, tcp_transitory, tcp_closed },
        limits: agent::Limits { new_flows_per_second, live_flows, answers_per_second, denials_per_minute },
        refusals,
        unrecorded,
    } = datapath;
    // They have a section and a table of their own.
    assert!(services.is_empty());
    let real = [
        ("gateway", String::new()),
        ("region", String::new()),
        ("state", String::new()),
        ("allocations", format!("{allocations:?}").to_lowercase()),
        ("state_dir", String::new()),
        ("reconcile_seconds", reconcile_seconds.to_string()),
        ("users.interface", interface),
        ("users.listen_port", listen_port.to_string()),
        ("users.private_key_file", String::new()),
        ("users.mtu", mtu.to_string()),
        ("users.endpoint", String::new()),
        ("users.real_ranges", String::new()),
        ("plants.listen_port_base", listen_port_base.to_string()),
        ("plants.mtu", plants_mtu.to_string()),
        ("plants.endpoint", String::new()),
        ("pools.tunnel", tunnel.to_string()),
        ("pools.source", source.to_string()),
        ("pools.virtual", virtual_.to_string()),
        ("pools.tunnel6", tunnel6.to_string()),
        ("pools.source6", source6.to_string()),
        ("pools.virtual6", virtual6.to_string()),
        ("health.place", String::new()),
        ("health.probes", String::new()),
        ("policy.route_roles", route_roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("datapath.pin_dir", pin_dir.display().to_string()),
        ("datapath.peers_max", peers_max.to_string()),
        ("datapath.routes_max", routes_max.to_string()),
        ("datapath.plants_max", plants_max.to_string()),
        ("datapath.flows_max", flows_max.to_string()),
        ("datapath.closed_max", closed_max.to_string()),
        ("datapath.denials_max", denials_max.to_string()),
        ("datapath.fragments_max", fragments_max.to_string()),
        ("datapath.events_bytes", events_bytes.to_string()),
        ("datapath.idle_seconds.tcp", tcp.to_string()),
        ("datapath.idle_seconds.udp", udp.to_string()),
        ("datapath.idle_seconds.icmp", icmp.to_string()),
        ("datapath.idle_seconds.tcp_transitory", tcp_transitory.to_string()),
        ("datapath.idle_seconds.tcp_closed", tcp_closed.to_string()),
        ("datapath.limits.new_flows_per_second", new_flows_per_second.to_string()),
        ("datapath.limits.live_flows", live_flows.to_string()),
        ("datapath.limits.answers_per_second", answers_per_second.to_string()),
        ("datapath.limits.denials_per_minute", denials_per_minute.to_string()),
        ("datapath.refusals", format!("{refusals:?}").to_lowercase()),
        ("datapath.unrecorded", format!("{unrecorded:?}").to_lowercase()),
        ("api.socket", String::new()),
        ("api.connections_max", connections_max.to_string()),
        ("api.body_max_bytes", body_max_bytes.to_string()),
        ("api.tls.listen", String::new()),
        ("api.tls.certificate_file", String::new()),
        ("api.tls.private_key_file", String::new()),
        ("api.tls.client_ca_file", String::new()),
        ("pull.url", String::new()),
        ("pull.interval_seconds", interval_seconds.to_string()),
        ("pull.ca_file", ca_file.display().to_string()),
        ("pull.certificate_file", String::new()),
        ("pull.private_key_file", String::new()),
    ];
    let rows = settings("agent.toml", &real);
    // TOML takes a dotted name for a field of a table.
    check_limits(&rows, |name, value| {
        let text = match name.split('.').next() {
            Some("api") => format!("{name} = {value}\napi.socket = '/s'\n{least}"),
            Some("pull") => {
                let rest = least.replace("state = '/s'\n", "");
                format!("{name} = {value}\npull.url = 'https://p'\n{rest}")
            }
            _ => format!("{name} = {value}\n{least}"),
        };
        let problems = agent::Config::parse(&text).err()?;
        Some(problems.list().iter().any(|problem| problem.path == name && problem.message.contains("out of range")))
    });
}

#[test]
fn settings_of_the_collector_have_the_defaults_and_limits_in_the_table() {
    let least = "directory = '/d'\nstate_dir = '/s'\nembedded.library = '/l'\nembedded.path = '/p'\n";
    let parse = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        fs::write(&path, text).unwrap();
        collector::Config::read(&path)
    };
    let collector::Config { directory: _, state_dir: _, pin_dir, sweep_ms, clickhouse, embedded, flush } =
        parse(least).unwrap();
    let collector::ClickHouse { url, user, password_file, database } = clickhouse;
    let collector::Embedded { library: _, path: _, listen } = embedded.unwrap();
    let collector::Flush { interval_ms, rows } = flush;
    let real = [
        ("directory", String::new()),
        ("state_dir", String::new()),
        ("pin_dir", pin_dir.display().to_string()),
        ("sweep_ms", sweep_ms.to_string()),
        ("clickhouse.url", url.unwrap_or_default()),
        ("clickhouse.user", user),
        ("clickhouse.password_file", password_file.map(|path| path.display().to_string()).unwrap_or_default()),
        ("clickhouse.database", database),
        ("embedded.library", String::new()),
        ("embedded.path", String::new()),
        ("embedded.listen", listen.to_string()),
        ("flush.interval_ms", interval_ms.to_string()),
        ("flush.rows", rows.to_string()),
    ];
    let rows = settings("collector.toml", &real);
    check_limits(&rows, |name, value| match parse(&format!("{name} = {value}\n{least}")) {
        Ok(_) => None,
        Err(collector::Error::Value { field, .. }) => Some(field == name),
        Err(_) => Some(false),
    });
}

#[test]
fn queries_for_auditors_answer() {
    let library = demo::library().unwrap();
    let store = Store::start(&demo::programs().unwrap().join("vpn-collector"), &library).unwrap();
    let audit = Audit::new(&format!("http://127.0.0.1:{}", store.port()));
    audit.text(FLOWS).unwrap();
    audit.text(DENIALS).unwrap();
    let mut queries = 0;
    for block in all_blocks().iter().filter(|block| block.language() == "sql") {
        let rows =
            audit.rows::<Value>(block.text.trim_end()).unwrap_or_else(|error| panic!("{}: {error:#}", block.place()));
        assert!(!rows.is_empty(), "{}: no row of the test's is in the answer", block.place());
        queries += 1;
    }
    assert_eq!(queries, 11, "ten questions, and one about refused attempts");

    let shown: Vec<_> =
        table("docs/audit.md", "column").iter().map(|row| (row[0].replace('`', ""), row[1].clone())).collect();
    let view = audit.rows::<Value>(
        "SELECT name, type FROM system.columns WHERE database = 'audit' AND table = 'accesses' ORDER BY position",
    );
    let real = view.unwrap().into_iter().map(|row| {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        // How a column merges is no concern of who reads it.
        let merged = text("type");
        let plain = merged.strip_prefix("SimpleAggregateFunction(max, ").and_then(|of| of.strip_suffix(')'));
        (text("name"), plain.unwrap_or(&merged).to_owned())
    });
    assert_eq!(shown, real.collect::<Vec<_>>());
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for name in documents() {
        let text = read(&name);
        let folder = Path::new(&name).parent().unwrap();
        for target in targets(&text) {
            if target.starts_with("https://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { Path::new(&name).to_owned() } else { folder.join(path) };
            let found = root().join(&path);
            assert!(found.exists(), "{name}: {target} leads nowhere");
            if !anchor.is_empty() {
                let headings = headings(&fs::read_to_string(found).unwrap());
                assert!(headings.contains(anchor), "{name}: {target}: the headings there are {headings:?}");
            }
            links += 1;
        }
    }
    assert!(links > 20);
}

/// A path of the repository in a document is one that exists.
#[test]
fn every_file_that_is_named_exists() {
    let mut named = 0;
    for name in documents() {
        let text = read(&name);
        for word in text.split('`').skip(1).step_by(2) {
            let is_source =
                ["vpn-", "tests/", "xtask/", "docs/", "examples/"].iter().any(|start| word.starts_with(start))
                    && word.contains('/')
                    && !word.contains(' ');
            if is_source {
                assert!(root().join(word).exists(), "{name}: there is no {word}");
                named += 1;
            }
        }
    }
    assert!(named > 20);
}

#[test]
fn the_changelog_has_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CHANGELOG.md").contains(&format!("\n## [{version}] - ")));
    assert!(read("README.md").contains(&format!("Version {version}")));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(read("README.md").contains(&format!("a Rust toolchain of version {rust} or later")));
}

/// Rows that each of the ten questions finds something in.
const FLOWS: &str = "INSERT INTO audit.flows SELECT generateUUIDv4(), 'alpha', 'north', user, user, [organisation], 'g', 'r', \
    6, '::ffff:100.64.0.2', 40000, '::ffff:10.128.0.20', '::ffff:192.168.1.20', 502, now64(6) - 60, now64(6) - 1, 4, 400, 3, 300, 0, \
    'forwarded' FROM VALUES('user String, organisation String', ('user-a', 'alpha'), ('user-b', 'beta'))";
const DENIALS: &str = "INSERT INTO audit.denials SELECT generateUUIDv4(), if(number < 25, '', 'alpha'), if(number < 25, '', 'north'), 'user-a', 'a', ['alpha'], 'g', 'r', 6, \
    '::ffff:100.64.0.2', '::ffff:10.128.7.20', number, 'no-route', now64(6) - 1, now64(6), 3, 180 FROM numbers(30)";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a directory of the workspace")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn all_blocks() -> Vec<Block<'static>> {
    DOCUMENTS.into_iter().flat_map(first_plant::blocks).collect()
}

/// Every document: those at the top, and all of `docs`.
fn documents() -> Vec<String> {
    let mut documents = Vec::new();
    for folder in ["", "docs/"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                documents.push(format!("{folder}{name}"));
            }
        }
    }
    for (name, _) in DOCUMENTS {
        assert!(documents.iter().any(|document| document == name), "{name} is gone");
    }
    for name in &documents {
        let known = DOCUMENTS.iter().any(|(document, _)| document == name);
        assert!(known || !read(name).contains("```sh"), "{name} has commands and is not in DOCUMENTS");
    }
    documents
}

fn state(place: &str, text: &str) -> State {
    State::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{place}: {problems}"))
}

/// The rows of the first table in a text whose first column has this title, cell by cell.
fn rows_of(text: &str, first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {first} |")));
    let (titles, rule) = (lines.next(), lines.next());
    assert!(titles.is_some() && rule.is_some_and(|rule| rule.starts_with("| ---")), "no table with {first}");
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn table(document: &str, first: &str) -> Vec<Vec<String>> {
    rows_of(&read(document), first)
}

/// The table of settings under the heading of a file, whose names and defaults are those given.
fn settings(file: &str, real: &[(&str, String)]) -> Vec<Vec<String>> {
    let text = read("docs/operators.md");
    let (_, section) = text.split_once(&format!("\n## {file}\n")).unwrap_or_else(|| panic!("no section on {file}"));
    let rows = rows_of(section, "setting");
    let shown: Vec<_> = rows.iter().map(|row| (row[0].replace('`', ""), row[1].replace('`', ""))).collect();
    assert_eq!(shown, real.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>());
    rows
}

/// `refuses` says whether a value is refused because it is out of range; `None` if it is taken.
fn check_limits(rows: &[Vec<String>], refuses: impl Fn(&str, u64) -> Option<bool>) {
    let mut limits = 0;
    for row in rows {
        let name = row[0].replace('`', "");
        let Some((least, most)) = row[2].split_once(" to ") else { continue };
        let (Ok(least), Ok(most)) = (least.parse::<u64>(), most.parse::<u64>()) else { continue };
        for out in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
            // Where the type itself has no room for it, it is refused as something that is no such number.
            let by_type = u16::try_from(most).is_ok_and(|most| most == u16::MAX) && out > most;
            assert!(refuses(&name, out).is_some_and(|range| range || by_type), "{name} = {out} is out of range");
        }
        for inside in [least, most] {
            assert_ne!(refuses(&name, inside), Some(true), "{name} = {inside} is in range");
        }
        limits += 1;
    }
    assert!(limits > 2);
}

/// What the links of a document lead to.
fn targets(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split("](").skip(1).filter_map(|rest| rest.split(')').next())).collect()
}

/// The anchors that headings get.
fn headings(text: &str) -> BTreeSet<String> {
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    text.split("```").step_by(2).flat_map(str::lines).filter(|line| line.starts_with('#')).map(anchor).collect()
}
