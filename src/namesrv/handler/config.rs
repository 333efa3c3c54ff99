//! The name server's own configuration: request 319.

use super::{Answer, Shared, done};

impl Shared {
    /// `key=value` lines. Source: Configuration#getAllConfigsFormatString (4.9.3).
    pub(super) fn config(&self) -> Answer {
        Ok(done().with_body(self.options.config_text.clone()))
    }
}
