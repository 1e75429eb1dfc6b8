//! A Lua process that does what the test says, step by step.

use crate::PATIENCE;
use crate::daemon::Daemon;
use crate::lua::Lua;
use crate::process::Process;
use crate::repository;
use std::time::Duration;

/// A Lua interpreter that runs `tests/lua/agent.lua`.
///
/// Results are shown as Lua would write them: `nil`, `-2`, `"text"`, and `object` for tables and userdata.
pub struct Agent {
    process: Process,
}

impl Agent {
    /// Starts one; `luassl` is loaded as the global `ssl`.
    ///
    /// # Panics
    /// When the module cannot be loaded.
    #[must_use]
    pub fn start(daemon: &Daemon, lua: Lua) -> Self {
        let mut agent = Self::bare(daemon, lua);
        agent.run("ssl = require 'luassl'");
        agent
    }

    /// Starts one with LuaSSL 1.0's manner: `luassl.classic` puts the global `ssl` in place.
    ///
    /// # Panics
    /// When the module cannot be loaded.
    #[must_use]
    pub fn classic(daemon: &Daemon, lua: Lua) -> Self {
        let mut agent = Self::bare(daemon, lua);
        agent.run("require 'luassl.classic'");
        agent
    }

    /// Starts one that has loaded nothing yet.
    #[must_use]
    pub fn bare(daemon: &Daemon, lua: Lua) -> Self {
        Self::of(Process::start(lua.command(daemon).arg(repository().join("tests/lua/agent.lua"))))
    }

    /// An agent that runs in `process`.
    #[must_use]
    pub fn of(process: Process) -> Self {
        Self { process }
    }

    /// Runs a chunk and gives its results, separated by `, `.
    ///
    /// # Panics
    /// When it throws, or does not answer.
    pub fn run(&mut self, chunk: &str) -> String {
        self.send(chunk);
        self.answer()
    }

    /// Runs a chunk that has to throw, and gives the error's message.
    ///
    /// # Panics
    /// When it does not throw.
    pub fn error(&mut self, chunk: &str) -> String {
        self.send(chunk);
        match self.outcome(PATIENCE) {
            Err(message) => message,
            Ok(results) => panic!("{chunk}: no error, but {results}\n{}", self.process.transcript()),
        }
    }

    /// Sends a chunk, and does not wait for its answer.
    pub fn send(&mut self, chunk: &str) {
        let line: Vec<_> = chunk.lines().map(str::trim).collect();
        self.process.write(format!("{}\n", line.join(" ")));
    }

    /// The results of the oldest chunk whose answer was not asked for yet.
    ///
    /// # Panics
    /// When it throws, or does not answer.
    pub fn answer(&mut self) -> String {
        self.answer_within(PATIENCE)
    }

    /// As [`Agent::answer`], within `patience`.
    ///
    /// # Panics
    /// When it throws, or does not answer.
    pub fn answer_within(&mut self, patience: Duration) -> String {
        match self.outcome(patience) {
            Ok(results) => results,
            Err(message) => panic!("Lua error: {message}\n{}", self.process.transcript()),
        }
    }

    /// The answer to a failed handshake that `visit` makes: a failure is told to who has asked for it by then, so
    /// `visit` comes again until one is told.
    ///
    /// # Panics
    /// When none is told.
    pub fn answer_to<T>(&mut self, mut visit: impl FnMut() -> T) -> String {
        const VISITS: usize = 40;
        let mut visits = Vec::new();
        for _ in 0..VISITS {
            visits.push(visit());
            if let Some(line) = self.process.try_line(Duration::from_millis(500)) {
                return Self::results(&line).unwrap_or_else(|message| panic!("Lua error: {message}"));
            }
        }
        panic!("no failed handshake was told\n{}", self.process.transcript())
    }

    /// Whether an answer comes within `patience`; it is dropped.
    pub fn answers_within(&mut self, patience: Duration) -> bool {
        self.process.try_line(patience).is_some()
    }

    /// The results, or the message of the error that was thrown.
    ///
    /// # Errors
    /// The message of the Lua error.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn outcome(&mut self, patience: Duration) -> Result<String, String> {
        Self::results(&self.process.line_within(patience))
    }

    fn results(line: &str) -> Result<String, String> {
        let mut words = line.split('\t');
        let status = words.next();
        let rest = words.collect::<Vec<_>>().join(", ");
        if status == Some("ok") { Ok(rest) } else { Err(rest) }
    }

    /// Process id of the interpreter.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
