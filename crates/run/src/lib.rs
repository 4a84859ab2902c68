//! Run folders: stages, manifests, atomic files, progress events and seeded draws.
