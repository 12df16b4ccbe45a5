//! `azure-sim.env`: everything a shell needs to point Azure clients at this simulator.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file that only its owner may read, also when it existed with wider rights.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    open_private(path)?.write_all(text.as_bytes())
}

/// Opens an empty file that only its owner may read, also when it existed with wider rights.
pub(crate) fn open_private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(0o600);
        if path.exists() {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    options.open(path)
}

/// Lines of `NAME='value'`, exported, for `source`.
pub(crate) fn render(values: &[(&str, String)]) -> String {
    let mut text = String::from("# Written by azure-sim at each start. Source it: . ./azure-sim.env\n");
    for (name, value) in values {
        text.push_str(&format!("export {name}='{}'\n", value.replace('\'', "'\\''")));
    }
    text
}
