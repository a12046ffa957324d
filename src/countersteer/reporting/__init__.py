"""What a person looks at: reports, films, pages, drawings."""
