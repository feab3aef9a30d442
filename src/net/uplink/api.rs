//! The socket by which slirp4netns takes requests.

use super::builder::Published;
use crate::error::{Error, ErrorKind, Result, Step};
use crate::net::temporary;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const SOCKET: &str = "api";

/// A directory that nobody else can enter, for the time until all requests are made.
pub(super) struct Api {
    path: PathBuf,
    directory: File,
}

impl Api {
    pub(super) fn create() -> Result<Self> {
        let path = temporary::path("uplink")?;
        let failed = |error| Error::io(Step::Uplink, path.display(), error);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed)?;
        match File::open(&path).map_err(failed) {
            Ok(directory) => Ok(Self { path, directory }),
            Err(error) => {
                let _ = std::fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// A descriptor of the directory, for the helper.
    pub(super) fn directory(&self) -> Result<OwnedFd> {
        let copy = self.directory.try_clone();
        let copy = copy.map_err(|error| Error::io(Step::Uplink, self.path.display(), error))?;
        Ok(copy.into())
    }

    /// The path of the socket for who has the directory under this number: always short enough for a socket's.
    pub(super) fn socket(directory: i32) -> String {
        format!("/proc/self/fd/{directory}/{SOCKET}")
    }

    pub(super) fn publish(&self, port: &Published, to: IpAddr, limit: Duration) -> Result<()> {
        let failed = |error| Error::io(Step::Uplink, format!("slirp4netns: {port}"), error);
        let request = format!(
            r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{}","host_addr":"{}","host_port":{},"guest_addr":"{to}","guest_port":{}}}}}"#,
            port.protocol,
            port.outside.ip(),
            port.outside.port(),
            port.inside,
        );
        let ask = || {
            let mut socket = UnixStream::connect(Self::socket(self.directory.as_raw_fd()))?;
            socket.set_read_timeout(Some(limit))?;
            socket.write_all(request.as_bytes())?;
            socket.shutdown(Shutdown::Write)?;
            let mut reply = String::new();
            socket.read_to_string(&mut reply).map(|_| reply)
        };
        let reply = ask().map_err(failed)?;
        if reply.contains("\"return\"") {
            return Ok(());
        }
        let what = format!("slirp4netns: {port}: {reply}");
        let error = Error::other(ErrorKind::System, Step::Uplink, what);
        Err(error.with_hint(Some(
            "somebody else may have the port, or it may be a privileged one".into(),
        )))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.join(SOCKET));
        let _ = std::fs::remove_dir(&self.path);
    }
}
