-- Purpose: example rows for the local stack: two venues' companies, their people, six WhatsApp lines.
-- Touches: auth.users, companies, user_companies, wapi_instances. Never for production; a second run changes nothing.

insert into auth.users (id, email) values
  ('a0000000-0000-4000-8000-000000000001', 'ana@example.com'),
  ('a0000000-0000-4000-8000-000000000002', 'bruno@example.com'),
  ('a0000000-0000-4000-8000-000000000003', 'carla@example.com'),
  ('a0000000-0000-4000-8000-000000000004', 'davi@example.com')
on conflict do nothing;

insert into public.companies (id, name, slug) values
  ('c0000000-0000-4000-8000-000000000001', 'Boteco da Vila', 'boteco-da-vila'),
  ('c0000000-0000-4000-8000-000000000002', 'Cantina Bela Paulista', 'cantina-bela-paulista')
on conflict do nothing;

-- Carla works for both.
insert into public.user_companies (user_id, company_id, role, is_default) values
  ('a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001', 'owner', true),
  ('a0000000-0000-4000-8000-000000000002', 'c0000000-0000-4000-8000-000000000001', 'member', true),
  ('a0000000-0000-4000-8000-000000000003', 'c0000000-0000-4000-8000-000000000001', 'member', true),
  ('a0000000-0000-4000-8000-000000000003', 'c0000000-0000-4000-8000-000000000002', 'member', false),
  ('a0000000-0000-4000-8000-000000000004', 'c0000000-0000-4000-8000-000000000002', 'owner', true)
on conflict do nothing;

insert into public.wapi_instances
  (id, user_id, company_id, unit, instance_id, instance_token, status, phone_number, connected_at)
values
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001',
   'Jardins', 'LITE-AB12CD-EF34G1', 'token-jardins', 'connected', '5511900000001', '2026-01-05T12:00:00Z'),
  ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001',
   'Moema', 'LITE-AB12CD-EF34G2', 'token-moema', 'connected', '5511900000002', '2026-01-05T12:00:00Z'),
  ('b0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001',
   'Pinheiros', 'LITE-AB12CD-EF34G3', 'token-pinheiros', 'connected', '5511900000003', '2026-01-05T12:00:00Z'),
  ('b0000000-0000-4000-8000-000000000004', 'a0000000-0000-4000-8000-000000000004', 'c0000000-0000-4000-8000-000000000002',
   'Vila Mariana', 'LITE-HJ56KL-MN78P4', 'token-vila-mariana', 'connected', '5511900000004', '2026-01-05T12:00:00Z'),
  ('b0000000-0000-4000-8000-000000000005', 'a0000000-0000-4000-8000-000000000004', 'c0000000-0000-4000-8000-000000000002',
   'Tatuapé', 'LITE-HJ56KL-MN78P5', 'token-tatuape', 'connected', '5511900000005', '2026-01-05T12:00:00Z'),
  ('b0000000-0000-4000-8000-000000000006', 'a0000000-0000-4000-8000-000000000004', 'c0000000-0000-4000-8000-000000000002',
   'Santana', 'LITE-HJ56KL-MN78P6', 'token-santana', 'connected', '5511900000006', '2026-01-05T12:00:00Z')
on conflict do nothing;
