//! Files of a client's TLS that change.

use std::fs;

use super::*;

fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn g7_files_are_read_again_and_the_last_good_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| folder.path().join(name));
    let (first, second) = (made(), made());
    for (file, text) in [(&ca, &first.0), (&certificate, &first.0), (&key, &first.1)] {
        fs::write(file, text).unwrap();
    }
    let files = TlsFiles {
        authorities: Some(ca.clone()),
        certificate: Some(ClientCertificate { certificate: certificate.clone(), key: key.clone() }),
    };
    let followed = Followed::new(files, "spec.tls", &[b"h2"]).unwrap();
    let began = followed.config();
    assert!(Arc::ptr_eq(&began, &followed.config()), "nothing changed");
    fs::remove_file(&ca).unwrap();
    assert!(Arc::ptr_eq(&began, &followed.config()), "the last good one");
    let wrong = followed.loaded.lock().unwrap().wrong.clone().unwrap();
    assert!(wrong.starts_with("spec.tls.caFile: ") && wrong.contains("ca.pem: cannot be read: "), "{wrong}");
    fs::write(&ca, &second.0).unwrap();
    let replaced = followed.config();
    assert!(!Arc::ptr_eq(&began, &replaced));
    assert_eq!(followed.loaded.lock().unwrap().wrong, None);
    // Half of a rotation: the certificate is new, its key is not.
    fs::write(&certificate, &second.0).unwrap();
    assert!(Arc::ptr_eq(&replaced, &followed.config()));
    let wrong = followed.loaded.lock().unwrap().wrong.clone().unwrap();
    assert!(wrong.contains("spec.tls.keyFile") && wrong.contains("not that of the certificate"), "{wrong}");
    fs::write(&key, &second.1).unwrap();
    assert!(!Arc::ptr_eq(&replaced, &followed.config()));
}

#[test]
fn equal_settings_share_one_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let [one, same, other] = ["1.pem", "2.pem", "3.pem"].map(|name| folder.path().join(name));
    let (first, second) = (made(), made());
    for (file, text) in [(&one, &first.0), (&same, &first.0), (&other, &second.0)] {
        fs::write(file, text).unwrap();
    }
    let of = |authorities: Option<&PathBuf>, protocols: &[&[u8]]| {
        let files = TlsFiles { authorities: authorities.cloned(), certificate: None };
        Followed::new(files, "spec.tls", protocols).unwrap().config()
    };
    let config = of(Some(&one), &[b"h2"]);
    assert!(Arc::ptr_eq(&config, &of(Some(&same), &[b"h2"])));
    for different in [of(Some(&other), &[b"h2"]), of(Some(&one), &[]), of(None, &[b"h2"])] {
        assert!(!Arc::ptr_eq(&config, &different));
    }
    let system = of(None, &[b"h2"]);
    assert!(Arc::ptr_eq(&system, &of(None, &[b"h2"])));
}

#[test]
fn g7_a_file_that_cannot_be_used_is_named_by_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let [file, key] = ["x.pem", "k.pem"].map(|name| folder.path().join(name));
    let (certificate, secret) = made();
    let with = |text: &str, key_text: &str| {
        fs::write(&file, text).unwrap();
        fs::write(&key, key_text).unwrap();
        let certificate = Some(ClientCertificate { certificate: file.clone(), key: key.clone() });
        let files = TlsFiles { authorities: None, certificate };
        Followed::new(files, "spec.tls", &[]).unwrap_err().to_string()
    };
    let text = with("nothing", &secret);
    assert!(text.starts_with("spec.tls.certFile: ") && text.contains("no BEGIN CERTIFICATE"), "{text}");
    let text = with(&certificate, "sesame");
    assert!(text.starts_with("spec.tls.keyFile: ") && text.contains("no private key"), "{text}");
    assert!(!text.contains("sesame"), "{text}");
}
