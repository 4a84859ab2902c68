//! Records: readers and writers, prompt formats, cleaning, splitting, tokenised examples.
