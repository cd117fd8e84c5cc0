//! What makes a zone with a table a [`Replica`](crate::Replica): every call goes to the table.

/// Implements [`Replica`](crate::Replica) for a zone with a field `table`, and one that says how it matches keys if not exactly.
macro_rules! replica_by_table {
    ($zone:ty $(, $match_by:ident)?) => {
        impl $crate::Replica for $zone {
            fn name(&self) -> &str {
                &self.table.settings().name
            }

            fn kind(&self) -> $crate::ZoneKind {
                self.table.settings().kind
            }

            $(fn match_by(&self) -> $crate::MatchBy {
                self.$match_by
            })?

            fn origin(&self) -> $crate::Origin {
                self.table.settings().origin
            }

            fn poll_dirty(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
                self.table.poll_dirty(cx)
            }

            fn wait_dirty(&self, timeout: std::time::Duration) -> bool {
                self.table.wait_dirty(timeout)
            }

            fn call_for_dirty(&self) {
                self.table.call_for_dirty();
            }

            fn dirty_count(&self) -> usize {
                self.table.dirty_count()
            }

            fn published_seq(&self) -> u64 {
                self.table.published_seq()
            }

            fn publish(
                &self,
                now: $crate::Time,
                f: &mut dyn FnMut(&$crate::Record<'_>) -> bool,
            ) -> (u64, u64) {
                self.table.publish(now, f)
            }

            fn apply_batch(
                &self,
                now: $crate::Time,
                origin: $crate::Origin,
                from_seq_excluded: u64,
                through_seq: u64,
                rows: &mut dyn Iterator<Item = $crate::Record<'_>>,
            ) -> Result<$crate::Applied, $crate::Error> {
                self.table.apply_batch(now, origin, from_seq_excluded, through_seq, rows)
            }

            fn apply_states(
                &self,
                now: $crate::Time,
                rows: &mut dyn Iterator<Item = $crate::Record<'_>>,
            ) -> Result<$crate::Applied, $crate::Error> {
                self.table.apply_states(now, rows)
            }

            fn cover(&self, vector: &$crate::VersionVector) {
                self.table.cover(vector);
            }

            fn uncover(&self, origin: $crate::Origin, through_seq: u64) {
                self.table.uncover(origin, through_seq);
            }

            fn adopt(&self, except: &[$crate::Origin]) -> bool {
                self.table.adopt(except)
            }

            fn vector(&self) -> $crate::VersionVector {
                self.table.vector()
            }

            fn scan(
                &self,
                now: $crate::Time,
                origins: &[$crate::Origin],
                known: &$crate::VersionVector,
                cursor: $crate::Cursor,
                f: &mut dyn FnMut(&$crate::Record<'_>) -> bool,
            ) -> Option<$crate::Cursor> {
                self.table.scan(now, origins, known, cursor, f)
            }

            fn digest(&self, now: $crate::Time) -> u64 {
                self.table.digest(now)
            }

            fn sweep_part(&self, now: $crate::Time, budget: usize, part: usize, parts: usize) -> usize {
                self.table.sweep_part(now, budget, part, parts)
            }

            fn stats(&self) -> $crate::ZoneStats {
                self.table.stats()
            }

            fn tombstone_retention(&self) -> Option<std::time::Duration> {
                Some(std::time::Duration::from_millis(self.table.settings().retention_ms))
            }

            fn max_record(&self) -> usize {
                self.table.settings().max_record
            }
        }
    };
}

pub(crate) use replica_by_table;
