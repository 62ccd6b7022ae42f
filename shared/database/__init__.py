"""The tables, through the Supabase client: one method for each SQL function."""
