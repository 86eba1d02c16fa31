//! What `willowmq journal` does.
