# What an operator configures on PRI. SEC1 gets it with the cycles.
set -eu

# nginx: a shop with a certificate of the bakery's own authority, and pages for its staff alone.
mkdir -p /etc/nginx/tls
cd /etc/nginx/tls
new_key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $new_key -days 400 -subj '/CN=The bakery' -keyout ca-key.pem -out ca.pem
openssl req $new_key -subj /CN=shop.bakery.example -addext subjectAltName=DNS:shop.bakery.example -keyout key.pem -out shop.csr
openssl x509 -req -in shop.csr -CA ca.pem -CAkey ca-key.pem -copy_extensions copy -days 60 -out cert.pem
echo "ann:$(openssl passwd -apr1 cake)" > staff
cat > /etc/nginx/conf.d/shop.conf <<'END'
server {
    listen 443 ssl;
    server_name shop.bakery.example;
    root /unbound/shop;
    ssl_certificate /etc/nginx/tls/cert.pem;
    ssl_certificate_key /etc/nginx/tls/key.pem;
    location /staff/ {
        auth_basic "the staff";
        auth_basic_user_file /etc/nginx/tls/staff;
    }
}
END
systemctl reload nginx

# Apache: another directory than its own, and a page out of a database.
a2enmod --quiet cgid
cat > /etc/apache2/sites-available/000-default.conf <<'END'
<VirtualHost *:8080>
  DocumentRoot /unbound/cakes
  ScriptAlias /orders /unbound/cgi/orders
</VirtualHost>
<Directory /unbound/cakes>
  Require all granted
</Directory>
<Directory /unbound/cgi>
  Require all granted
</Directory>
END

echo '/unbound/recipes 192.168.77.0/24(rw,sync,no_subtree_check)' > /etc/exports

printf '\n[team]\npath = /unbound/team\nguest ok = yes\nread only = no\n' >> /etc/samba/smb.conf

printf 'zone "bakery.example" { type master; file "/etc/bind/db.bakery"; };\n' >> /etc/bind/named.conf.local
printf '$TTL 60\n@ IN SOA ns admin 1 60 60 60 60\n@ IN NS ns\nns IN A 192.168.77.1\n' > /etc/bind/db.bakery

# Nobody out there gives these servers the time.
printf 'allow 192.168.77.0/24\nlocal stratum 10\n' > /etc/chrony/conf.d/lan.conf

postconf -e myhostname=mail.bakery.example 'mydestination=bakery.example, localhost' mail_spool_directory=/unbound/mail
sed -i 's,^mail_location = .*,mail_location = mbox:~/mail:INBOX=/unbound/mail/%u,' /etc/dovecot/conf.d/10-mail.conf
grep -q unbound /etc/dovecot/conf.d/10-mail.conf

cd /etc/postgresql/15/main
sed -i "s,^data_directory = .*,data_directory = '/unbound/postgresql/15/main'," postgresql.conf
grep -q unbound postgresql.conf
echo "listen_addresses = '*'" > conf.d/lan.conf
echo 'host verify verify samenet scram-sha-256' >> pg_hba.conf

printf '[mysqld]\nbind-address = 0.0.0.0\ndatadir = /unbound/mysql\n' > /etc/mysql/mariadb.conf.d/60-lan.cnf

# The accounts with which the Verifier comes, and the authority that it knows as clients do.
mkdir -p /etc/atlas/verifier
cd /etc/atlas/verifier
cp /etc/nginx/tls/ca.pem .
umask 077
echo '*:*:*:verify:cake' > postgresql
printf '[client]\nuser = verify\npassword = cake\n' > mariadb
echo 'default login baker password cake' > mail
