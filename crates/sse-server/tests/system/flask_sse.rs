//! The example with Flask-SSE: the tutorial's application under gunicorn and gevent, beside
//! sse-server, as its README starts them.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::process::{Process, python, workspace};

/// The commands of the README, with other ports and the programs of this test.
struct Example {
    directory: TempDir,
    commands: Vec<String>,
    redis_port: String,
}

impl Example {
    fn new() -> Self {
        let example = workspace().join("examples/flask-sse");
        let [redis, flask, server] = free_ports();
        let on_free_ports = |text: &str| {
            text.replace("--port 6379", &format!("--port {redis}"))
                .replace("redis://localhost", &format!("redis://127.0.0.1:{redis}"))
                .replace("127.0.0.1:5000", &format!("127.0.0.1:{flask}"))
                .replace("127.0.0.1:8000", &format!("127.0.0.1:{server}"))
        };
        let read = |name| fs::read_to_string(example.join(name)).expect("a file of the example");
        let directory = TempDir::new().expect("a temporary directory");
        let app = on_free_ports(&read("app.py"));
        fs::write(directory.path().join("app.py"), app).expect("a copy of the application");
        let readme = on_free_ports(&read("README.md"));
        let block = readme.split("```sh\n").nth(1).expect("a block of commands");
        let block = block.split("```").next().expect("its end");
        let commands = block.split(['\n', '&']).map(str::trim);
        Self {
            directory,
            commands: commands
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect(),
            redis_port: redis,
        }
    }

    /// Starts the next command, which must begin with `program`.
    fn start(&mut self, program: &str) -> Process {
        let line = self.commands.remove(0);
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some(program), "{line}");
        let mut command = program_command(program);
        command.args(words).current_dir(self.directory.path());
        Process::start(&command)
    }

    /// Waits until the channel of Flask-SSE has this many subscribers.
    fn wait_for_subscribers(&self, count: u64) {
        let end = Instant::now() + Duration::from_mins(1);
        let url = format!("redis://127.0.0.1:{}", self.redis_port);
        let client = redis::Client::open(url).expect("a URL");
        let mut connection = client.get_connection().expect("a running Redis");
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg("sse");
        loop {
            let (_, found): (String, u64) = command.query(&mut connection).expect("a reply");
            if found >= count {
                return;
            }
            assert!(Instant::now() < end, "{found} subscribers of {count}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn program_command(program: &str) -> Command {
    match program {
        "redis-server" => {
            let path = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| program.into());
            let mut command = Command::new(path);
            command.args(["--save", ""]);
            command
        }
        "gunicorn" => {
            let mut command = python();
            command.args(["-m", "gunicorn", "--no-control-socket"]);
            command
        }
        "sse-server" => Command::new(env!("CARGO_BIN_EXE_sse-server")),
        program => {
            assert!(Path::new(program).components().count() == 1, "{program}");
            let mut command = Command::new(program);
            command.args(["--silent", "--show-error"]);
            command
        }
    }
}

/// Ports that no other program uses. The programs of the README need to know them before they
/// start. They are below the range that the system gives to connections and to port 0.
fn free_ports() -> [String; 3] {
    let first = u16::try_from(std::process::id() * 16 % 20_000).unwrap_or(0) + 10_000;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = (first..first + 1000).filter(is_free);
    [(); 3].map(|()| ports.next().expect("a free port").to_string())
}

#[test]
fn flask_sse_and_sse_server_deliver_the_events_of_both() {
    let mut example = Example::new();
    let mut redis = example.start("redis-server");
    redis.line(|line| line.contains("eady to accept connections"));
    let mut gunicorn = example.start("gunicorn");
    gunicorn.line(|line| line.contains("Booting worker"));
    let mut server = example.start("sse-server");
    server.line(|line| line.contains("listening on http://"));
    let mut ours = example.start("curl");
    ours.line(|line| line.starts_with("retry:"));
    let mut flasks = example.start("curl");
    // The bridge, and the stream of Flask. Flask-SSE sends nothing before the first event.
    example.wait_for_subscribers(2);

    let (status, _) = example.start("curl").finish();
    assert!(status.success());
    ours.line(|line| line.starts_with("id: ") && line != "id: 0-0");
    ours.line(|line| line == "event: from-flask");
    let data = ours.line(|line| line.starts_with("data: "));
    flasks.line(|line| line == "event:from-flask");
    flasks.line(|line| line == data.replace("data: ", "data:"));

    let (status, _) = example.start("curl").finish();
    assert!(status.success());
    let id = ours.line(|line| line.starts_with("id: "));
    ours.line(|line| line == "event: from-sse-server");
    let data = ours.line(|line| line.starts_with("data: "));
    flasks.line(|line| line == "event:from-sse-server");
    flasks.line(|line| line == data.replace("data: ", "data:"));
    flasks.line(|line| line == id.replace("id: ", "id:"));
    assert!(example.commands.is_empty(), "{:?}", example.commands);
}
