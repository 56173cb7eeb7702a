//! A system that forbids netlink sockets, as containers may: the server warns once and serves.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use crate::process::{Process, python};

/// A Python program that executes another program, for which `socket(AF_NETLINK, …)` fails with
/// EPERM: a seccomp filter of six instructions.
const WITHOUT_NETLINK: &str = "\
import ctypes, os, platform, struct, sys
SOCKET = {'x86_64': 41}.get(platform.machine(), 198)
AF_NETLINK, EPERM, ALLOW = 16, 0x00050001, 0x7fff0000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
filter = b''.join(struct.pack('HBBI', code, if_true, if_false, value) for code, if_true, if_false, value in [
    (LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 3, SOCKET),
    (LOAD, 0, 0, 16), (JUMP_IF_EQUAL, 0, 1, AF_NETLINK),
    (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW),
])
memory = ctypes.create_string_buffer(filter, len(filter))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(len(filter) // 8, ctypes.cast(memory, ctypes.c_void_p))
prctl = ctypes.CDLL(None).prctl
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

/// The thread sweeps once per second, as often as the server sends a heartbeat.
const HEARTBEATS: usize = 4;

#[test]
fn a_server_that_may_not_use_netlink_warns_once_and_serves() {
    let mut command = python();
    command
        .args(["-c", WITHOUT_NETLINK, env!("CARGO_BIN_EXE_sse-server")])
        .args(["--memory", "--bind", "127.0.0.1:0"])
        .args(["--heartbeat", "1s", "--write-timeout", "1s"]);
    let mut server = Process::start(&command);
    let url = server.line(|line| line.starts_with("http://"));
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream
        .write_all(b"GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let heartbeats = lines.filter(|line| line == ":").take(HEARTBEATS);
    assert_eq!(heartbeats.count(), HEARTBEATS);
    server.signal("TERM");
    let (status, lines) = server.finish();
    assert!(status.success());
    let is_warning = |line: &&String| line.contains("the kernel does not report");
    assert_eq!(lines.iter().filter(is_warning).count(), 1, "{lines:?}");
}
