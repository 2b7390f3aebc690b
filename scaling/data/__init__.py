"""Text or token files in; fixed train and validation tokens, and batches of them, out."""
