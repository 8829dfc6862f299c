//! The sample resources as YAML text, made to be read and edited.

use std::{fmt::Write, fs, io, net::SocketAddr, path::Path};

use super::{SAMPLES, Sample, password};

/// The addresses that the sample trunks point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// The registrar that knows MD5, over UDP.
    pub acme_udp: SocketAddr,
    /// The same over TCP.
    pub acme_tcp: SocketAddr,
    /// The registrar that knows SHA-256, over UDP.
    pub globex: SocketAddr,
    /// The one that never responds.
    pub silent: SocketAddr,
    /// The one that responds 503.
    pub busy: SocketAddr,
}

impl Samples {
    /// Writes `trunks.yaml` and `credentials.yaml` into a folder, which is made where it is missing. What
    /// they hold already is replaced, in one step for each file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, dir: impl AsRef<Path>) -> io::Result<()> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir)?;
        // Credentials first: trunks refer to them.
        for (name, text) in
            [("credentials.yaml", Self::credentials_yaml()), ("trunks.yaml", self.trunks_yaml())]
        {
            let draft = dir.join(format!(".{name}.draft"));
            fs::write(&draft, text)?;
            fs::rename(draft, dir.join(name))?;
        }
        Ok(())
    }

    /// The trunks.
    pub fn trunks_yaml(&self) -> String {
        let mut text =
            String::from("# Sample trunks of the demo. Edits are followed: change something and watch.\n");
        for sample in SAMPLES {
            self.trunk(&mut text, &sample);
        }
        text
    }

    /// The credentials.
    pub fn credentials_yaml() -> String {
        let mut text = String::from("# Credentials of the sample trunks.\n");
        for Sample { reference, name, .. } in SAMPLES {
            let password = if reference == "wrong-password" {
                "demo-old-password".to_owned()
            } else {
                password(reference)
            };
            push(
                &mut text,
                format_args!(
                    "\n- apiVersion: v2beta1\n  kind: Credentials\n  ref: {reference}-credentials\n  metadata: {{ name: \
                     \"{name}\" }}\n  spec:\n    credentials:\n      username: {reference}\n      password: {password}\n"
                ),
            );
        }
        text
    }

    fn trunk(&self, text: &mut String, sample: &Sample) {
        let Sample { reference, name, shows, .. } = sample;
        push(
            text,
            format_args!(
                "\n# {shows}\n- apiVersion: v2beta1\n  kind: Trunk\n  ref: {reference}\n  metadata: {{ name: \
                 \"{name}\", region: demo }}\n  spec:\n    inbound: {{ uri: {reference}.demo.example }}\n    outbound:\n      \
                 sendRegister: true\n      credentialsRef: {reference}-credentials\n      uris:\n"
            ),
        );
        for (at, (address, transport)) in self.targets(reference).into_iter().enumerate() {
            let place = match address {
                Some(address) => format!("host: {}, port: {}, ", address.ip(), address.port()),
                None => String::new(),
            };
            push(
                text,
                format_args!(
                    "        - uri: {{ user: {reference}, {place}transport: {transport} }}\n          priority: {}\n          \
                     weight: 10\n          enabled: true\n",
                    (at + 1) * 10
                ),
            );
        }
    }

    /// Returns the targets of a sample trunk, in the order of priority; without an address the host is left
    /// out.
    fn targets(&self, reference: &str) -> Vec<(Option<SocketAddr>, &'static str)> {
        match reference {
            "acme-tcp" => vec![(Some(self.acme_tcp), "tcp")],
            "globex-sha256" | "globex-longer-expiry" => vec![(Some(self.globex), "udp")],
            "globex-failover" => vec![(Some(self.globex), "udp"), (Some(self.acme_udp), "udp")],
            "silent-registrar" => vec![(Some(self.silent), "udp")],
            "busy-registrar" => vec![(Some(self.busy), "udp")],
            "no-host" => vec![(None, "udp")],
            _ => vec![(Some(self.acme_udp), "udp")],
        }
    }
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(piece);
}
