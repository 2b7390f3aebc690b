"""The results document (results.json): assembled from measurements, written, read and summarised."""
