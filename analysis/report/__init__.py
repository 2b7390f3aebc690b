"""The HTML report: prose and tables from a results document, and the page that holds them."""
