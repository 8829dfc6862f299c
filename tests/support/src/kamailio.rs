//! A real Kamailio as the registrar, with its location table as the oracle of what is registered.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, command, tail};
use super::wait::{PATIENCE, wait_for, wait_until};
use super::{http, ports};

const START: Duration = PATIENCE;
const TEMPLATE: &str = include_str!("kamailio.cfg");

/// The hash of the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// Source of challenges: the registrar itself (401), or a proxy in front of it (407).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    Unauthorized401,
    Proxy407,
}

/// User who may register, by the name in the credentials; the address of record may be another.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    password: String,
    min_expires: Option<u32>,
}

impl User {
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into(), min_expires: None }
    }

    /// Responds 423 to this user when less than `seconds` are asked.
    pub fn min_expires(mut self, seconds: u32) -> Self {
        self.min_expires = Some(seconds);
        self
    }
}

/// Options of a Kamailio.
#[derive(Clone, Debug)]
pub struct Options {
    pub realm: String,
    pub users: Vec<User>,
    pub algorithm: Algorithm,
    pub challenge: Challenge,
    /// True when the challenge offers `qop="auth"`.
    pub qop: bool,
    /// Seconds until a nonce gets another challenge with `stale=true`.
    pub nonce_lifetime: u32,
    /// Seconds below which everyone gets 423 with `Min-Expires`; 0 for none.
    pub min_expires: u32,
    /// Seconds to which a longer wish is cut.
    pub max_expires: u32,
    /// Bindings for each address of record, beyond which a new one is refused with 503.
    pub max_contacts: Option<u32>,
    /// Everyone may register, without credentials.
    pub open: bool,
    /// The rules for user agents behind NAT of Kamailio's own default configuration (nathelper).
    pub nat: bool,
    /// Certificate and key in PEM, for SIP over TLS.
    pub tls: Option<(String, String)>,
    /// The strict sanity check: 420 with `Unsupported: gin` for `Proxy-Require: gin`.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            realm: "kamailio.test".to_owned(),
            users: Vec::new(),
            algorithm: Algorithm::Md5,
            challenge: Challenge::Unauthorized401,
            qop: true,
            nonce_lifetime: 300,
            min_expires: 0,
            max_expires: 3600,
            max_contacts: None,
            open: false,
            nat: false,
            tls: None,
            strict: false,
        }
    }
}

impl Options {
    /// Everything by default, and these users.
    pub fn with_users(users: impl IntoIterator<Item = User>) -> Self {
        Self { users: users.into_iter().collect(), ..Self::default() }
    }
}

/// A live binding of the location table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `user@host`.
    pub aor: String,
    /// The Contact's URI.
    pub contact: String,
    pub call_id: String,
    pub cseq: u64,
    /// Seconds left.
    pub expires_s: i64,
    /// User-Agent as Kamailio shows it: `n/a` when there was none.
    pub user_agent: String,
    /// Socket at which the REGISTER arrived: `udp:127.0.0.1:5060`, `tcp:…`.
    pub socket: String,
}

/// REGISTERs of one address of record since the last start. Retransmissions do not count: how many there are
/// is a matter of how busy the machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    /// REGISTERs that got 401 or 407.
    pub challenged: u64,
    /// REGISTERs that got 200, removals included.
    pub saved: u64,
}

/// The location table of a Kamailio, over all its runs.
#[derive(Clone, Copy, Debug)]
pub struct LocationTable {
    rpc_port: u16,
}

impl LocationTable {
    /// The live bindings, sorted by address of record, then Contact. An error when it does not respond.
    pub async fn bindings(&self) -> Result<Vec<Binding>, String> {
        let dump = rpc(self.rpc_port, "ul.dump", json!([])).await?;
        let mut bindings: Vec<Binding> = array(&dump["Domains"])
            .flat_map(|domain| array(&domain["Domain"]["AoRs"]))
            .flat_map(|aor| {
                array(&aor["Info"]["Contacts"]).map(|contact| (&aor["Info"]["AoR"], &contact["Contact"]))
            })
            .filter_map(|(aor, contact)| binding(aor, contact))
            .collect();
        bindings.sort_by(|a, b| (&a.aor, &a.contact).cmp(&(&b.aor, &b.contact)));
        Ok(bindings)
    }
}

/// A running Kamailio. Dropping it kills it.
pub struct Kamailio {
    process: Process,
    options: Options,
    sip_port: u16,
    tls_port: u16,
    rpc_port: u16,
    dir: TempDir,
}

impl Kamailio {
    /// Starts one and waits until it responds: some 50 ms.
    pub async fn start(options: Options) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let (sip_port, tls_port, rpc_port) = (ports::free(), ports::free(), ports::free());
        let text = configuration(&options, sip_port, rpc_port).replace("@TLS_PORT@", &tls_port.to_string());
        if let Some((certificate, key)) = &options.tls {
            fs::write(dir.path().join("certificate.pem"), certificate).expect("write the certificate");
            fs::write(dir.path().join("key.pem"), key).expect("write the key");
        }
        fs::write(dir.path().join("kamailio.cfg"), text).expect("write the configuration");
        let process = spawn(&options, &dir);
        let mut kamailio = Self { process, options, sip_port, tls_port, rpc_port, dir };
        kamailio.ready().await;
        kamailio
    }

    /// The port of 127.0.0.1 for SIP over UDP.
    pub fn udp_port(&self) -> u16 {
        self.sip_port
    }

    /// The port of 127.0.0.1 for SIP over TCP: the same number.
    pub fn tcp_port(&self) -> u16 {
        self.sip_port
    }

    /// The port of 127.0.0.1 for SIP over TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Its location table, to be looked at by anyone who does not have the Kamailio itself.
    pub fn table_of_bindings(&self) -> LocationTable {
        LocationTable { rpc_port: self.rpc_port }
    }

    /// The live bindings, sorted by address of record, then Contact. An error when it does not respond.
    pub async fn try_bindings(&self) -> Result<Vec<Binding>, String> {
        self.table_of_bindings().bindings().await
    }

    /// The live bindings. Panics with Kamailio's log when it does not respond.
    pub async fn bindings(&self) -> Vec<Binding> {
        self.try_bindings().await.unwrap_or_else(|error| self.fail(&error))
    }

    /// The live bindings of one address of record, `user@host`.
    pub async fn bindings_of(&self, aor: &str) -> Vec<Binding> {
        self.bindings().await.into_iter().filter(|binding| binding.aor == aor).collect()
    }

    /// REGISTERs by the user part of the address of record, since the last start.
    pub async fn register_counts(&self) -> BTreeMap<String, Counts> {
        let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
        for (user, n) in self.table("received").await {
            counts.entry(user).or_default().received = n;
        }
        for (user, n) in self.table("challenged").await {
            counts.entry(user).or_default().challenged = n;
        }
        for (user, n) in self.table("saved").await {
            counts.entry(user).or_default().saved = n;
        }
        counts
    }

    /// Adds a user, or changes the password of one. Lasts until the next start.
    pub async fn set_password(&self, user: &str, password: &str) {
        let params = json!(["password", user, password]);
        self.rpc("htable.sets", params).await.unwrap_or_else(|error| self.fail(&error));
    }

    /// Ends it by SIGTERM and waits until its ports are free.
    pub async fn stop(&mut self) {
        self.process.terminate(START).await;
        self.gone().await;
    }

    /// Ends it by SIGKILL and waits until its ports are free.
    pub async fn kill(&mut self) {
        self.process.kill().await;
        self.gone().await;
    }

    /// Starts it on the same ports, killing it first when it still runs. Its bindings and counts are gone.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.process = spawn(&self.options, &self.dir);
        self.ready().await;
    }

    /// Freezes it: its ports stay open and nothing gets a response. Not even `bindings`.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Resumes it after `pause`. What lies in its sockets gets its response now.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Everything it has logged, over all its runs.
    pub fn log(&self) -> String {
        self.process.output()
    }

    async fn ready(&mut self) {
        let port = self.rpc_port;
        let probe = async || {
            if let Some(status) = self.process.status() {
                panic!("kamailio ended at its start with {status}; {}", tail(&self.process.output()));
            }
            rpc(port, "core.uptime", json!([]))
                .await
                .map_err(|error| format!("{error}; {}", tail(&self.process.output())))
        };
        wait_for(probe, START, "kamailio to answer").await;
    }

    async fn gone(&self) {
        let free = async || ports::is_free(self.sip_port) && ports::is_free(self.rpc_port);
        wait_until(free, START, "kamailio's ports to be free").await;
    }

    async fn table(&self, name: &str) -> BTreeMap<String, u64> {
        let dump = self.rpc("htable.dump", json!([name])).await.unwrap_or_else(|error| self.fail(&error));
        array(&dump)
            .flat_map(|entry| array(&entry["slot"]))
            .filter_map(|item| Some((item["name"].as_str()?.to_owned(), item["value"].as_u64()?)))
            .collect()
    }

    async fn rpc(&self, method: &str, params: Value) -> Result<Value, String> {
        rpc(self.rpc_port, method, params).await
    }

    fn fail(&self, error: &str) -> ! {
        panic!("kamailio: {error}; {}", tail(&self.log()))
    }
}

async fn rpc(port: u16, method: &str, params: Value) -> Result<Value, String> {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let (status, body) = http::post(&format!("http://127.0.0.1:{port}/"), call).await?;
    let mut reply: Value =
        serde_json::from_slice(&body).map_err(|error| format!("{method}: {status}: {error}"))?;
    match reply.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(format!("{method}: {status}: {}", reply["error"])),
    }
}

/// The items of an array; none of anything else, since Kamailio leaves an empty array out or writes an
/// object.
fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// None for one that has expired and waits for the sweep: it shows a word, or nothing positive, as its
/// expiry.
fn binding(aor: &Value, contact: &Value) -> Option<Binding> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let expires_s = contact["Expires"].as_i64().filter(|&seconds| seconds > 0)?;
    Some(Binding {
        aor: text(aor),
        contact: text(&contact["Address"]),
        call_id: text(&contact["Call-ID"]),
        cseq: contact["CSeq"].as_u64()?,
        expires_s,
        user_agent: text(&contact["User-Agent"]),
        socket: text(&contact["Socket"]),
    })
}

fn configuration(options: &Options, sip_port: u16, rpc_port: u16) -> String {
    let algorithm = match options.algorithm {
        Algorithm::Md5 => "MD5",
        Algorithm::Sha256 => "SHA-256",
    };
    let mut text = TEMPLATE
        .replace("@SIP_PORT@", &sip_port.to_string())
        .replace("@RPC_PORT@", &rpc_port.to_string())
        .replace("@REALM@", &options.realm)
        .replace("@ALGORITHM@", algorithm)
        .replace("@NONCE_LIFETIME@", &options.nonce_lifetime.to_string())
        .replace("@MIN_EXPIRES@", &options.min_expires.to_string())
        .replace("@MAX_EXPIRES@", &options.max_expires.to_string());
    text.push_str("event_route[htable:mod-init] {\n    $var(started) = 1;\n");
    for user in &options.users {
        let (name, password) = (&user.name, quoted(&user.password));
        text.push_str(&format!("    $sht(password=>{name}) = {password};\n"));
        if let Some(seconds) = user.min_expires {
            text.push_str(&format!("    $sht(minimum=>{name}) = {seconds};\n"));
        }
    }
    text.push_str("}\n");
    text
}

/// A string literal of Kamailio's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn spawn(options: &Options, dir: &TempDir) -> Process {
    let mut command = command("kamailio");
    // In the foreground (-DD), log to standard error (-E), 32 MB shared and 16 MB private memory.
    command
        .current_dir(dir.path())
        .args(["-DD", "-E", "-m", "32", "-M", "16", "-f", "kamailio.cfg", "-w"])
        .arg(dir.path());
    command.arg("-Y").arg(dir.path());
    let defines = [
        (options.strict, "STRICT".to_owned()),
        (options.qop, "QOP".to_owned()),
        (options.open, "OPEN".to_owned()),
        (options.nat, "NAT".to_owned()),
        (options.tls.is_some(), "TLS".to_owned()),
        (options.challenge == Challenge::Proxy407, "PROXY".to_owned()),
        (
            options.max_contacts.is_some(),
            format!("MAX_CONTACTS={}", options.max_contacts.unwrap_or_default()),
        ),
    ];
    for (_, define) in defines.iter().filter(|(wanted, _)| *wanted) {
        command.args(["-A", define]);
    }
    Process::spawn("kamailio", command, &dir.path().join("output.log"))
}
