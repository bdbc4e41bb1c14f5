# What an operator does once on each server: the services' data goes onto the Unbound disks, and each server has the accounts that they know.
set -eu
# All start at once, on an emulated processor.
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\nDefaultTimeoutStartSec=15min\nDefaultTimeoutStopSec=15min\n' > /etc/systemd/system.conf.d/emulated.conf
systemctl daemon-reload
systemctl stop apache2 postgresql postgresql@15-main mariadb smbd nmbd postfix postfix@- dovecot chrony named

cd /unbound
mkdir www cakes cgi shop shop/staff recipes team mail mysql postgresql
echo "the bakery's page" > www/index.html
echo "the bakery's cakes" > cakes/index.html
echo "the bakery's shop" > shop/index.html
echo "who works when" > shop/staff/index.html
cat > cgi/orders <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\n\n'
echo "orders: $(psql -Atd bakery -c 'SELECT count(*) FROM orders' 2>&1)"
END
chmod 755 cgi/orders
chmod 1777 recipes team
chgrp mail mail
chmod 2775 mail
mv /var/lib/mysql/* mysql/
chown mysql:mysql mysql
mv /var/lib/postgresql/15 postgresql/
chown postgres:postgres postgresql

useradd --create-home --uid 4711 --shell /bin/sh baker
echo baker:cake | chpasswd
systemctl enable nfs-server

# Of its own now, and not the image's.
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl restart ssh
