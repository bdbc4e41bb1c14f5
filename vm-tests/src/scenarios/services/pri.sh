# What an operator configures on PRI. SEC1 gets it with the cycles.
set -eu

# Apache: another directory than its own.
printf '<VirtualHost *:8080>\n  DocumentRoot /unbound/cakes\n</VirtualHost>\n<Directory /unbound/cakes>\n  Require all granted\n</Directory>\n' \
    > /etc/apache2/sites-available/000-default.conf

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

# The accounts with which the Verifier comes.
mkdir -p /etc/atlas/verifier
cd /etc/atlas/verifier
umask 077
echo '*:*:*:verify:cake' > postgresql
printf '[client]\nuser = verify\npassword = cake\n' > mariadb
echo 'default login baker password cake' > mail
